package docker

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
	"github.com/connpool/connpool/test/dockerd"
)

func TestContainersAreListedAsTheEngineHasThem(t *testing.T) {
	engine := dockerd.Start(t)
	conn := mustDial(t, Options{}, unixEndpoint(engine))
	empty, err := conn.List(t.Context(), inventory.Query{})
	if err != nil || len(empty.Names()) != 0 {
		t.Fatalf("found %v, error %v", empty, err)
	}
	if _, err := run(conn, driver.Place{Container: "web"}, "true"); !strings.Contains(driver.AsError(err).Message, "no container runs there") {
		t.Errorf("error %v", err)
	}
	for _, name := range []string{"web", "db", "old", "paused"} {
		if _, err := engine.Container(t.Context(), "--name="+name); err != nil {
			t.Fatal(err)
		}
	}
	mustDocker(t, engine, "kill", "old")
	mustDocker(t, engine, "pause", "paused")
	defer mustDocker(t, engine, "unpause", "paused")
	running, err := conn.List(t.Context(), inventory.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if got := running.Names(); !slices.Equal(got, []string{"db", "paused", "web"}) {
		t.Errorf("running are %v", got)
	}
	all, err := conn.List(t.Context(), inventory.Query{All: true})
	if err != nil || !slices.Equal(all.Names(), []string{"db", "old", "paused", "web"}) {
		t.Fatalf("all are %v, error %v", all, err)
	}
	old, id := all.Containers[1], mustDocker(t, engine, "inspect", "--format={{.Id}}", "old")
	want := inventory.Container{Name: "old", ID: id, Image: dockerd.Image, State: "exited"}
	if diff := cmp.Diff(want, old, cmpopts.IgnoreFields(inventory.Container{}, "Status", "Created")); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(old.Status, "Exited") || time.Since(old.Created) > time.Hour {
		t.Errorf("status %q, created %s", old.Status, old.Created)
	}
	_, err = run(conn, driver.Place{Container: "wbe"}, "true")
	const words = "there is no container wbe on this engine; running: db, paused, web"
	if got := wantError(t, err, driver.NotFound, driver.StageStart); got.Message != words || got.Started {
		t.Errorf("message %q, want %q", got.Message, words)
	}
	_, err = run(conn, driver.Place{Container: "old"}, "true")
	if got := wantError(t, err, driver.NotFound, driver.StageStart); !strings.HasSuffix(got.Message, "start it; running: db, paused, web") {
		t.Errorf("message %q", got.Message)
	}
}

func TestAnEngineThatListsNoContainersSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(net.Conn)
		reason driver.Reason
		words  string
	}{
		"it forbids it": {says("HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nno!\n"), driver.Forbidden, "(no!); allow it"},
		"it fails":      {says("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), driver.ProtocolError, "500 No"},
		"it lies":       {says(strings.Replace(jsonText(`{}`), "201", "200", 1)), driver.ProtocolError, "as an engine does"},
		"it is silent":  {hold, driver.Timeout, "in time"},
		"it leaves":     {func(conn net.Conn) { _ = conn.Close() }, driver.Unreachable, "broke"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := mustDial(t, Options{StageTimeout: 200 * time.Millisecond}, play(t, speaks(map[string]func(net.Conn){"/containers/json": test.answer})))
			_, err := conn.List(t.Context(), inventory.Query{})
			if got := wantError(t, err, test.reason, driver.StageRun); got.Started || !strings.Contains(got.Message, test.words) {
				t.Errorf("message %q, want %q in it", got.Message, test.words)
			}
		})
	}
}
