package docker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

// cancelRunning cancels a command once one of its processes has the name, and returns
// what the caller is told.
func cancelRunning(t *testing.T, conn *conn, place driver.Place, argv []string, name string, before func()) *driver.Error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		awaitProcess(t, conn, place, name)
		if before != nil {
			before()
		}
	}()
	_, err := conn.Exec(ctx, driver.Command{Place: place, Argv: argv}, driver.Streams{})
	wantOutcome(t, err, driver.Unknown)
	return driver.AsError(err)
}

func awaitProcess(t *testing.T, conn *conn, place driver.Place, name string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; {
		if processesNamed(t, conn, place, name) != "" {
			return
		}
	}
	t.Errorf("%s did not start", name)
}

func processesNamed(t *testing.T, conn *conn, place driver.Place, name string) string {
	t.Helper()
	out, err := run(conn, place, fmt.Sprintf("ps -o pid,args | grep ' [%c]%s$'; true", name[0], name[1:]))
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(out)
}

func TestWhatACommandHasStartedEndsWithIt(t *testing.T) {
	engine := sharedEngine(t)
	tests := map[string]struct {
		options []string
		argv    []string
	}{
		"in an empty environment":                             {nil, []string{"env", "-i", "sleep", "5101"}},
		"in an empty environment, below a shell":              {nil, []string{"sh", "-c", "env -i sleep 5101; true"}},
		"by another user":                                     {nil, []string{"su", "nobody", "-s", "/bin/sh", "-c", "sleep 5101"}},
		"by another user's login shell":                       {nil, []string{"su", "-", "nobody", "-c", "sleep 5101; true"}},
		"by another user, below a shell":                      {nil, []string{"sh", "-c", "su nobody -s /bin/sh -c 'sleep 5101'; true"}},
		"in a session of its own":                             {nil, []string{"sh", "-c", "setsid env -i sleep 5101; true"}},
		"beside a parent that has left":                       {nil, []string{"sh", "-c", "(env -i sleep 5101 &); sleep 5102"}},
		"that ignores TERM":                                   {nil, []string{"env", "-i", "/bin/sh", "-c", "trap '' TERM; sleep 5101; sleep 5101"}},
		"in the process namespace of the host":                {[]string{"--pid=host"}, []string{"env", "-i", "sleep", "5101"}},
		"under a strange name":                                {nil, []string{"sh", "-c", `printf 'a) S 1\n2 (' >/proc/$$/comm; env -i sleep 5101; true`}},
		"in an empty environment, by an unprivileged user":    {[]string{"--user=nobody"}, []string{"env", "-i", "sleep", "5101"}},
		"in an empty environment, in a container with --init": {[]string{"--init"}, []string{"env", "-i", "sleep", "5101"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			place := containerWith(t, engine, tc.options...)
			conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
			told := cancelRunning(t, conn, place, tc.argv, "sleep 5101", nil)
			if left := processesNamed(t, conn, place, "sleep 5101"); left != "" {
				t.Errorf("still runs: %s", left)
			}
			if !strings.Contains(told.Message, "has ended") {
				t.Errorf("the caller is told %q", told.Message)
			}
		})
	}
}

// What another caller runs in the same container looks the same, but goes on.
func TestWhatOthersRunInTheContainerIsLeftAlone(t *testing.T) {
	engine := sharedEngine(t)
	place := containerWith(t, engine)
	conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
	other := driver.Command{Place: place, Argv: []string{"sh", "-c", "exec sleep 5201"}}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := conn.Exec(ctx, other, driver.Streams{})
		ended <- err
	}()
	awaitProcess(t, conn, place, "sleep 5201")
	mustDocker(t, engine, "exec", "--detach", place.Container, "sleep", "5202")
	awaitProcess(t, conn, place, "sleep 5202")
	cancelRunning(t, conn, place, []string{"sh", "-c", "sleep 5203; true"}, "sleep 5203", nil)
	told := cancelRunning(t, conn, place, []string{"env", "-i", "sleep", "5204"}, "sleep 5204", func() {
		mustDocker(t, engine, "exec", "--detach", place.Container, "sleep", "5205")
	})
	for name, want := range map[string]bool{
		"sleep 5201": true, "sleep 5202": true, "sleep 5203": false, "sleep 5205": true,
	} {
		if runs := processesNamed(t, conn, place, name) != ""; runs != want {
			t.Errorf("%s runs: %t, want %t", name, runs, want)
		}
	}
	if left := processesNamed(t, conn, place, "sleep 5204"); left != "" && !strings.Contains(told.Message, "did not confirm") {
		t.Errorf("%s still runs, and the caller is told %q", left, told.Message)
	}
	cancel()
	<-ended
}

func TestACallerIsToldThatACommandMayGoOn(t *testing.T) {
	engine := sharedEngine(t)
	t.Run("when there is no shell to signal it", func(t *testing.T) {
		place := containerWith(t, engine)
		conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
		told := cancelRunning(t, conn, place, []string{"sleep", "5301"}, "sleep 5301",
			func() { mustDocker(t, engine, "exec", place.Container, "rm", "/bin/sh") })
		if !strings.Contains(told.Message, "did not confirm") || !strings.Contains(told.Message, "no sh") {
			t.Errorf("the caller is told %q", told.Message)
		}
	})
	t.Run("when its container is paused", func(t *testing.T) {
		place := containerWith(t, engine)
		conn := mustDial(t, Options{KillGrace: time.Second}, unixEndpoint(engine))
		told := cancelRunning(t, conn, place, []string{"sleep", "5302"}, "sleep 5302",
			func() { mustDocker(t, engine, "pause", place.Container) })
		if !strings.Contains(told.Message, "is paused, and goes on when that is unpaused") {
			t.Errorf("the caller is told %q", told.Message)
		}
		mustDocker(t, engine, "unpause", place.Container)
	})
}

func containerWith(t *testing.T, engine *dockerd.Engine, options ...string) driver.Place {
	t.Helper()
	name, err := engine.Container(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustDocker(t, engine, "rm", "--force", name) })
	return driver.Place{Container: name}
}

// stat returns a line of a census.
func stat(pid int, mark string, parent, session int, begun uint64) string {
	return fmt.Sprintf("%d %s S %d %d %d\n", pid, mark, parent, session, begun)
}

func TestTheProcessesOfACommandAreThoseThatDescendFromIt(t *testing.T) {
	initial := stat(1, "none", 0, 1, 10)
	self := stat(90, "other", 0, 90, 5000) + "self 90\n"
	tests := map[string]struct {
		text  string
		known map[int]uint64
		want  map[int]uint64
	}{
		"its mark":                          {initial + stat(7, "own", 0, 7, 100), nil, map[int]uint64{7: 100}},
		"children without a mark":           {initial + stat(7, "own", 0, 7, 100) + stat(8, "none", 7, 7, 101) + stat(9, "none", 8, 9, 102), nil, map[int]uint64{7: 100, 8: 101, 9: 102}},
		"a child with a lower number":       {initial + stat(5, "none", 7, 5, 101) + stat(7, "own", 0, 7, 100), nil, map[int]uint64{5: 101, 7: 100}},
		"what shares its session":           {initial + stat(8, "none", 1, 7, 101) + stat(9, "own", 1, 7, 102), nil, map[int]uint64{8: 101, 9: 102}},
		"what is known":                     {initial + stat(7, "none", 1, 6, 100), map[int]uint64{7: 100}, map[int]uint64{7: 100}},
		"not a later one of that number":    {initial + stat(7, "none", 1, 6, 400), map[int]uint64{7: 100}, map[int]uint64{}},
		"not the container's first":         {initial + stat(7, "own", 1, 1, 100) + stat(8, "none", 1, 1, 90), nil, map[int]uint64{7: 100}},
		"not what has another mark":         {initial + stat(7, "own", 0, 7, 100) + stat(8, "other", 7, 7, 101), nil, map[int]uint64{7: 100}},
		"not a line that is something else": {initial + "8 none ) S 0\n" + stat(7, "own", 0, 7, 100), nil, map[int]uint64{7: 100}},
		"not what has ended":                {initial + strings.Replace(stat(7, "own", 0, 7, 100), " S ", " Z ", 1), nil, map[int]uint64{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			found, whole := parseCensus(tc.text + self)
			if !whole {
				t.Fatal("the census is not whole")
			}
			if diff := cmp.Diff(tc.want, found.kin(tc.known)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A container may send what it likes as its list of processes.
func TestALongChainOfProcessesIsFollowedQuickly(t *testing.T) {
	const length = 16_000
	var chain census
	for pid := length; pid > 1; pid-- {
		chain.seen = append(chain.seen, sighting{pid: pid, parent: pid - 1, session: pid})
	}
	chain.seen = append(chain.seen, sighting{pid: 2, parent: 0, session: 2, mark: "own"})
	begin := time.Now()
	if got := len(chain.kin(nil)); got != length-1 {
		t.Errorf("%d processes found of %d", got, length-1)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAProcessIsTakenForTheCommandOnlyIfNoOtherCanBe(t *testing.T) {
	const age = 10 * time.Second
	self := stat(90, "other", 0, 90, 5000) + "self 90\n"
	tests := map[string]struct {
		text string
		want int
	}{
		"the only one":                     {stat(7, "none", 0, 7, 4500), 7},
		"one of two":                       {stat(7, "none", 0, 7, 4500) + stat(8, "none", 0, 8, 4600), 0},
		"beside one that is older":         {stat(7, "none", 0, 7, 4500) + stat(8, "none", 0, 8, 3000), 7},
		"beside one with another mark":     {stat(7, "none", 0, 7, 4500) + stat(8, "other", 0, 8, 4600), 7},
		"one that was started inside":      {stat(7, "none", 1, 7, 4500), 0},
		"the container's own first":        {stat(1, "none", 0, 1, 4500), 0},
		"none, but a child of what is not": {stat(7, "none", 0, 5, 4500), 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			found, _ := parseCensus(tc.text + self)
			root, ok := found.root(age)
			if root.pid != tc.want || ok != (tc.want != 0) {
				t.Errorf("took %d, want %d", root.pid, tc.want)
			}
		})
	}
}

func TestACensusIsWholeOrNone(t *testing.T) {
	for _, text := range []string{
		"", "self", "self x\n", "self 7\n", stat(7, "own", 0, 7, 1), "7 own\nself 7\n", "-7 own S\n", strings.Repeat("x", 1<<17) + "\nself 7\n",
	} {
		if found, whole := parseCensus(text); whole {
			t.Errorf("%.20q is a whole census: %+v", text, found)
		}
	}
}
