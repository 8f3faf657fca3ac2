package exec

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo prints its arguments and copies its input.
func echo(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
	fmt.Fprintf(streams.Stdout, "%s%s%q%s%v\n", options.Target, placeIn(options), options.Command, options.Shell, options.Env)
	if streams.Stdin != nil {
		_, _ = io.Copy(streams.Stdout, streams.Stdin)
	}
	fmt.Fprint(streams.Stderr, "done\x1b[0m\n")
	return clitest.Exits(0, "")
}

// placeIn returns the place in the target where a command runs; "" on a host.
func placeIn(options livev1alpha1.ExecOptions) string {
	if options.Container == "" && options.Pod == "" {
		return ""
	}
	return fmt.Sprintf("(%s/%s/%s)", options.Namespace, options.Pod, options.Container)
}

func TestExecPassesArgumentsAndStreamsOn(t *testing.T) {
	tests := map[string]struct {
		words []string
		stdin string
		want  string
	}{
		"arguments as given":                      {[]string{"web", "--", "ls", "-l", "a b"}, "", `["ls" "-l" "a b"][]` + "\n"},
		"a target behind a slash":                 {[]string{"web/web-1", "--", "id"}, "", `web-1["id"][]` + "\n"},
		"a target in a flag":                      {[]string{"web", "--target", "web-2", "--", "id"}, "", `web-2["id"][]` + "\n"},
		"a line for the shell":                    {[]string{"web", "--shell", "--", "ls", "| wc"}, "", `[]ls | wc[]` + "\n"},
		"in a container":                          {[]string{"web", "-c", "app", "--", "ps"}, "", `(//app)["ps"][]` + "\n"},
		"in a container as inspect names it":      {[]string{"web", "-c", "/app", "--", "ps"}, "", `(//app)["ps"][]` + "\n"},
		"in a container by a short ID":            {[]string{"web", "-c", "4f1d2c3b4a59", "--", "ps"}, "", `(//4f1d2c3b4a59)["ps"][]` + "\n"},
		"in a pod":                                {[]string{"web", "--pod", "w-0", "--", "ps"}, "", `(/w-0/)["ps"][]` + "\n"},
		"in a pod as -o name prints it":           {[]string{"web", "--pod", "pod/w-0", "--", "ps"}, "", `(/w-0/)["ps"][]` + "\n"},
		"in a pod's container":                    {[]string{"web", "--pod", "w-0", "--pod-namespace", "n", "--container", "app", "--", "ps"}, "", `(n/w-0/app)["ps"][]` + "\n"},
		"variables":                               {[]string{"web", "--env", "A=1", "--env", "B=x=y", "--", "env"}, "", `["env"][A=1 B=x=y]` + "\n"},
		"input if asked for":                      {[]string{"web", "-i", "--", "cat"}, "in", `["cat"][]` + "\nin"},
		"no input if not asked for":               {[]string{"web", "--", "cat"}, "in", `["cat"][]` + "\n"},
		"a terminal is not passed on without one": {[]string{"web", "-it", "--", "cat"}, "in", `["cat"][]` + "\nin"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New, NewShell)
			f.Remote = echo
			got := f.RunWith(strings.NewReader(test.stdin), append([]string{"exec"}, test.words...)...)
			clitest.Want(t, got, 0, test.want)
			clitest.WantStderr(t, got, 0, "done\x1b[0m\n")
		})
	}
}

func TestExecAsksForNothingButTheCommand(t *testing.T) {
	f := clitest.Shop(t, New, NewShell)
	f.Remote = echo
	f.Run("exec", "web", "--", "id")
	if asked := f.Requests(); len(asked) != 1 {
		t.Errorf("asked %q", asked)
	}
}

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		end  *metav1.Status
		code int
		says string
	}{
		"success":                  {clitest.Exits(0, ""), 0, ""},
		"the command's own":        {clitest.Exits(7, ""), 7, ""},
		"one that looks like ours": {clitest.Exits(254, ""), 254, ""},
		"a signal":                 {clitest.Exits(137, "KILL"), 137, ""},
		"it did not start": {
			clitest.Fails(livev1alpha1.OutcomeNotStarted, "SessionLimit", "The server refuses one more session."), 254, "not started",
		},
		"it is unknown whether it ran": {
			clitest.Fails(livev1alpha1.OutcomeUnknown, "Unreachable", "The connection broke."), 255, "(request req-7)",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New, NewShell)
			f.Remote = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
				return test.end
			}
			got := f.Run("exec", "web", "--", "it")
			clitest.WantStderr(t, got, test.code, test.says)
			if test.says == "" && got.Stderr != "" {
				t.Errorf("said %q", got.Stderr)
			}
			if quiet := f.Run("exec", "-q", "web", "--", "it"); quiet.Code != test.code || quiet.Stderr != "" {
				t.Errorf("quietly: %+v", quiet)
			}
		})
	}
}

func TestCommandsThatAreRefusedDidNotStart(t *testing.T) {
	tests := map[string]struct {
		denied string
		words  []string
		says   []string
	}{
		"no permission": {
			"get live.connpool.dev/connectionpools/exec",
			[]string{"web", "--", "id"},
			[]string{`resources: ["connectionpools/exec"]`, `resourceNames: ["web"]`, "verbs: [create, get]"},
		},
		"no such pool":               {"", []string{"wbe", "--", "id"}, []string{"Did you mean web?"}},
		"no such target":             {"", []string{"web/web-9", "--", "id"}, []string{"Did you mean web-1 or web-2?"}},
		"no command":                 {"", []string{"web"}, []string{"a command is missing"}},
		"no pool":                    {"", []string{"--", "id"}, []string{"the name of a pool is missing"}},
		"no dashes":                  {"", []string{"web", "id"}, []string{"write -- before the command"}},
		"two targets":                {"", []string{"web/web-1", "--target", "web-2", "--", "id"}, []string{"different targets"}},
		"a variable without value":   {"", []string{"web", "--env", "A", "--", "id"}, []string{"NAME=value"}},
		"a flag that does not exist": {"", []string{"web", "--tree", "--", "id"}, []string{"--tree"}},
		"too many words":             {"", append([]string{"web", "--"}, make([]string, 1025)...), []string{"at most 1024"}},
		"too long a line":            {"", []string{"web", "--", strings.Repeat("x", 128<<10+1)}, []string{"at most 131072"}},
		"a namespace without pod":    {"", []string{"web", "--pod-namespace", "n", "--", "id"}, []string{"name the pod with --pod"}},
		"a pod with a namespace":     {"", []string{"web", "--pod", "n/w-0", "--", "id"}, []string{"--pod-namespace"}},
		"a negative timeout":         {"", []string{"web", "--timeout", "-1s", "--", "id"}, []string{"negative"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New, NewShell)
			f.Denied[test.denied] = true
			clitest.WantStderr(t, f.Run(append([]string{"exec"}, test.words...)...), exit.NotStarted, test.says...)
		})
	}
}

func TestCtrlCEndsTheRemoteCommand(t *testing.T) {
	f := clitest.Shop(t, New, NewShell)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan struct{})
	f.Remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(ended)
		fmt.Fprintln(streams.Stdout, "begun")
		interrupt()
		<-ctx.Done()
		return clitest.Fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	got := f.RunContext(ctx, nil, "exec", "web", "--", "sleep", "1000")
	clitest.WantStderr(t, got, exit.Interrupted, "interrupted", "told to end", "how it ends is unknown")
	<-ended
}

func TestATerminalCanBeForced(t *testing.T) {
	tests := map[string]struct {
		flags []string
		tty   bool
		note  bool
	}{
		"not asked for":               {nil, false, false},
		"asked for once":              {[]string{"-t"}, false, true},
		"asked for once, with input":  {[]string{"-it"}, false, true},
		"asked for once, quietly":     {[]string{"-qt"}, false, false},
		"asked for, and taken back":   {[]string{"-tt", "--tty=false"}, false, false},
		"forced":                      {[]string{"-tt"}, true, false},
		"forced, with input":          {[]string{"-itt"}, true, false},
		"forced, in two words":        {[]string{"-t", "-t"}, true, false},
		"forced, quietly":             {[]string{"-q", "-tt"}, true, false},
		"forced, in a word":           {[]string{"--tty=always"}, true, false},
		"asked for in a word":         {[]string{"--tty"}, false, true},
		"asked for as kubectl has it": {[]string{"--tty=true"}, false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TERM", "vt220")
			f := clitest.Shop(t, New, NewShell)
			f.Remote = func(_ context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
				if options.TTY != test.tty || test.tty && options.Term != "vt220" {
					t.Errorf("asked for %+v", options)
				}
				if test.tty {
					if size := <-resize; size.Columns != 80 || size.Rows != 24 {
						t.Errorf("the size is %+v", size)
					}
				}
				if streams.Stdin != nil {
					_, _ = io.Copy(streams.Stdout, streams.Stdin)
				}
				return clitest.Exits(0, "")
			}
			got := f.RunWith(strings.NewReader("in"), append(append([]string{"exec", "web"}, test.flags...), "--", "tty")...)
			want := ""
			if options := strings.Join(test.flags, " "); strings.Contains(options, "i") && !strings.Contains(options, "tty") {
				want = "in"
			}
			clitest.Want(t, got, 0, want)
			if noted := strings.Contains(got.Stderr, "note: the command gets no terminal"); noted != test.note {
				t.Errorf("said %q", got.Stderr)
			}
		})
	}
	clitest.WantStderr(t, clitest.New(t, New).Run("exec", "web", "--tty=sometimes", "--", "tty"), exit.NotStarted, "use always, true or false")
}

func TestALineThatIsNoProgramGetsAHint(t *testing.T) {
	tests := map[string]struct {
		words []string
		code  int
		hint  string
	}{
		"a pipeline":                    {[]string{"ls | wc -l"}, 127, `note: "ls | wc -l" was taken for the name of one program; with --shell`},
		"a program with its argument":   {[]string{"systemctl status"}, 127, "with --shell"},
		"an assignment":                 {[]string{"FOO=1", "env"}, 127, `"FOO=1" was taken for the name of a program; with --shell`},
		"a misspelled program":          {[]string{"sl", "-l"}, 127, ""},
		"a path with an equals sign":    {[]string{"/opt/a=b/run"}, 127, ""},
		"a line that failed":            {[]string{"ls | wc -l"}, 1, ""},
		"a program that was not found":  {[]string{"sh", "-c", "ls | wc -l"}, 127, ""},
		"a line that the shell has got": {[]string{"--shell", "--", "nope | wc"}, 127, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New, NewShell)
			f.Remote = func(context.Context, livev1alpha1.ExecOptions, driver.Streams, <-chan driver.WindowSize) *metav1.Status {
				return clitest.Exits(test.code, "")
			}
			words := append([]string{"--"}, test.words...)
			if test.words[0] == "--shell" {
				words = test.words
			}
			got := f.Run(append([]string{"exec", "web"}, words...)...)
			clitest.WantStderr(t, got, test.code, test.hint)
			if test.hint == "" && got.Stderr != "" {
				t.Errorf("said %q", got.Stderr)
			}
			if quiet := f.Run(append([]string{"exec", "-q", "web"}, words...)...); quiet.Stderr != "" {
				t.Errorf("quietly: said %q", quiet.Stderr)
			}
		})
	}
}

func TestATimeoutEndsTheRemoteCommand(t *testing.T) {
	f := clitest.Shop(t, New, NewShell)
	ended := make(chan struct{})
	f.Remote = func(ctx context.Context, _ livev1alpha1.ExecOptions, _ driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
		defer close(ended)
		<-ctx.Done()
		return clitest.Fails(livev1alpha1.OutcomeUnknown, "", "canceled")
	}
	clitest.WantStderr(t, f.Run("exec", "web", "--timeout", "20ms", "--", "sleep", "1000"), exit.Unknown, "timeout")
	<-ended
}

func TestAShellNeedsATerminal(t *testing.T) {
	clitest.WantStderr(t, clitest.Shop(t, New, NewShell).RunWith(strings.NewReader("ls"), "shell", "web"), exit.NotStarted, "needs a terminal", "exec web -i -- sh")
}
