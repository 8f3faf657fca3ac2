package session_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/session"
)

// step is a command and its result. Where the words of an error differ from shell to
// shell, the result only says that there are some (someWords), or may be
// (maybeWords).
type step struct {
	line string
	want result
}

const someWords = "..."

func TestCommandsShareTheirShellAndNothingElse(t *testing.T) {
	tests := map[string][]step{
		"stdout, stderr and the exit code are each command's own": {
			{"echo out; echo err >&2; (exit 7)", result{"out\n", "err\n", 7}},
			{"true", result{}},
			{"printf 'no newline'", result{Out: "no newline"}},
		},
		"directory, variables, functions and umask stay": {
			{"mkdir sub && cd sub && x=1 && export Y=2 && f() { echo f $1; } && umask 027", result{}},
			{`echo "${PWD##*/} $x $(sh -c 'echo $Y') $(umask)"; f 3`, result{Out: "sub 1 2 0027\nf 3\n"}},
			{"set -- a b", result{}},
			{"echo $# $2", result{Out: "2 b\n"}},
		},
		"the directory is gone": {
			{"mkdir gone && cd gone && rmdir ../gone", result{}},
			{"echo still here", result{Out: "still here\n"}},
		},
		"a syntax error": {
			{"if", result{Err: someWords, Code: 2}},
			{"echo 'unclosed", result{Err: someWords, Code: 2}},
			{"echo on", result{Out: "on\n"}},
		},
		"what could close the frame": {
			{"}", result{Err: someWords, Code: 2}},
			{"echo a # ' } comment", result{Out: "a\n"}},
			{`echo b \`, result{Out: "b\n"}},
			{"cat <<X\nheredoc", result{Out: "heredoc\n", Err: maybeWords}},
			{"echo c", result{Out: "c\n"}},
		},
		"an empty line and one of blanks": {{" ", result{}}, {"\n\n", result{}}, {"# nothing", result{}}},
		"the input is empty": {
			{"cat; read x; echo $?", result{Out: "1\n"}},
			{"echo next", result{Out: "next\n"}},
		},
		"redirections by exec": {
			{"exec >file; echo in the file", result{}},
			{"cat file", result{Out: "in the file\n"}},
			{"exec 2>&1; echo together >&2", result{Out: "together\n"}},
			{"exec >&- 2>&-", result{}},
			{"echo apart >&2", result{Err: "apart\n"}},
			{"exec 8>&- 9>other; echo x >&9", result{}},
			{"exec 3>three", result{}},
			{"echo 3 >&3; cat three", result{Out: "3\n"}},
			{"exec </dev/zero", result{}},
			{"cat", result{}},
		},
		"descriptors of the frame are closed": {{"(echo x >&8) 2>/dev/null || (echo x >&9) 2>/dev/null || echo closed", result{Out: "closed\n"}}},
		"functions with the names of builtins": {
			{"printf() { echo wrong; }; echo() { :; }", result{}},
			{"command() { :; }", result{}},
			{"unset -f echo; echo right", result{Out: "right\n"}},
		},
		"aliases": {
			{"alias command=false eval=false printf=false unset=false echo=false", result{}},
			{"pwd >/dev/null; 'echo' on", result{Out: "on\n"}},
		},
		"IFS": {{"IFS=0123456789abcdef", result{}}, {"(exit 17)", result{Code: 17}}, {"IFS=; echo on", result{Out: "on\n"}}},
		"special builtins that fail": {
			{"export 'a-b=c'", result{Err: someWords, Code: anyCode}},
			{". ./missing", result{Err: someWords, Code: anyCode}},
			{"readonly r=1", result{}},
			{"echo on", result{Out: "on\n"}},
		},
		"break and continue":       {{"break", result{Err: maybeWords}}, {"continue", result{Err: maybeWords}}, {"echo on", result{Out: "on\n"}}},
		"set -e while all is well": {{"set -e", result{}}, {"false || echo on", result{Out: "on\n"}}, {"set +e", result{}}},
		"set -u while all is set":  {{"set -u", result{}}, {"x=1; echo $x", result{Out: "1\n"}}},
		"set -C":                   {{"set -C", result{}}, {"echo on", result{Out: "on\n"}}},
		"set -f and -a":            {{"set -fa; v=1", result{}}, {"sh -c 'echo $v *'", result{Out: someWords}}},
		"traps": {
			{"trap 'echo trapped' USR1", result{}},
			{"kill -USR1 $$; :", result{Out: "trapped\n"}},
		},
		"background processes": {
			{"sleep 60 >/dev/null 2>&1 & echo started", result{Out: "started\n"}},
			{"kill $!; wait $! 2>/dev/null; echo $?", result{Out: "143\n", Err: maybeWords}},
		},
		"the environment is given": {{"echo \"$GIVEN\"", result{Out: "it's $HOME\n"}}},
	}
	inEveryShell(t, func(t *testing.T, execer local) {
		for name, steps := range tests {
			t.Run(name, func(t *testing.T) {
				here := execer
				here.dir = t.TempDir()
				shell := start(t, here, map[string]string{"GIVEN": "it's $HOME"})
				for _, s := range steps {
					s.check(t, run(t, shell, s.line))
				}
			})
		}
	})
}

const (
	maybeWords = "?"
	anyCode    = -1
)

func (s step) check(t *testing.T, got result) {
	t.Helper()
	want := s.want
	want.Out, want.Err = inKind(want.Out, got.Out), inKind(want.Err, got.Err)
	if want.Code == anyCode {
		want.Code = got.Code
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", s.line, diff)
	}
}

// inKind returns got if it is of the wanted kind, else what is wanted.
func inKind(want, got string) string {
	if want == maybeWords || want == someWords && got != "" {
		return got
	}
	return want
}

func TestTracesDoNotDisturbTheFrame(t *testing.T) {
	inEveryShell(t, func(t *testing.T, execer local) {
		for _, option := range []string{"-x", "-v", "-xv"} {
			shell := start(t, execer, nil)
			run(t, shell, "PS4='$(echo trace) '; set "+option)
			for range 3 {
				got := run(t, shell, "echo hello; (exit 4)")
				if got.Out != "hello\n" || got.Code != 4 || strings.Contains(got.Err, "printf") {
					t.Errorf("set %s: %+v", option, got)
				}
			}
		}
	})
}

func TestArgumentsArriveAsGiven(t *testing.T) {
	long := make([]string, 0, 1024)
	long = append(long, "printf", "%s|")
	for i := range 1022 {
		long = append(long, strconv.Itoa(i)+strings.Repeat("'", 60)+"\n\t$x\\")
	}
	tests := map[string][]string{
		"words with everything": {"printf", "%s|", "it's", "$HOME `id` \\", "", "*", "\n", "ü€", "-n", "\x01\xff"},
		"1,024 words":           long,
		"128 KiB":               {"printf", "%s|", strings.Repeat("a'b\n", 32<<10)},
		"a reserved word":       {"printf", "%s|", "if"},
	}
	inEveryShell(t, func(t *testing.T, execer local) {
		shell := start(t, execer, nil)
		for name, words := range tests {
			var stdout bytes.Buffer
			status, err := shell.Run(t.Context(), driver.Command{Argv: words}, &stdout, nil)
			if want := strings.Join(words[2:], "|") + "|"; err != nil || status.Code != 0 || stdout.String() != want {
				t.Errorf("%s: %v, %v, %d bytes of %d", name, status, err, stdout.Len(), len(want))
			}
		}
	})
}

func TestAnyBytesPass(t *testing.T) {
	inEveryShell(t, func(t *testing.T, execer local) {
		shell := start(t, execer, nil)
		var stdout, stderr bytes.Buffer
		line := "head -c 3000000 /dev/urandom >f; cat f; cat f >&2; cksum <f >sum"
		if _, err := shell.Run(t.Context(), driver.Command{Shell: line}, &stdout, &stderr); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stdout.Bytes(), stderr.Bytes()) || stdout.Len() != 3000000 {
			t.Fatalf("%d bytes on stdout, %d on stderr", stdout.Len(), stderr.Len())
		}
		want := run(t, shell, "cat sum; cksum <f").Out
		if first, second, _ := strings.Cut(strings.TrimSpace(want), "\n"); first != second {
			t.Error(want)
		}
		if got := run(t, shell, "cat f | cksum").Out; !strings.HasPrefix(want, got) {
			t.Errorf("%s is not %s", got, want)
		}
	})
}

func TestWhatIsWrittenBetweenCommandsIsDropped(t *testing.T) {
	inEveryShell(t, func(t *testing.T, execer local) {
		shell := start(t, execer, nil)
		run(t, shell, "mkfifo go gone; (read x <go; echo late; echo late >&2; echo >gone) &")
		got := run(t, shell, "(echo >go; read x <gone) >/dev/null; echo mine")
		if got.Out != "late\nmine\n" || got.Err != "late\n" {
			t.Errorf("the output while a command runs is not its output: %+v", got)
		}
		run(t, shell, "{ sleep 0.1; echo late; echo late >&2; : >done; } & :")
		awaitFile(t, execer.dir+"/done")
		if got := run(t, shell, "echo mine"); got != (result{Out: "mine\n"}) {
			t.Errorf("the output between two commands was not dropped: %+v", got)
		}
	})
}

func TestWhatEndsTheShellEndsTheSession(t *testing.T) {
	tests := map[string]struct {
		before, line string
		want         result
	}{
		"exit":                       {"", "echo bye; exit 3", result{"bye\n", "", 3}},
		"exec of a program":          {"", "exec sh -c 'echo instead; exit 4'", result{"instead\n", "", 4}},
		"a failure after set -e":     {"set -e", "echo a; false; echo b", result{"a\n", "", 1}},
		"exit with a trap":           {"trap 'echo trap; exit 6' EXIT", "exit 5", result{"trap\n", "", 6}},
		"output without its newline": {"", "printf half; exit 0", result{Out: "half"}},
	}
	inEveryShell(t, func(t *testing.T, execer local) {
		for name, tc := range tests {
			t.Run(name, func(t *testing.T) {
				shell := start(t, execer, nil)
				if tc.before != "" {
					run(t, shell, tc.before)
				}
				step{tc.line, tc.want}.check(t, run(t, shell, tc.line))
				<-shell.Done()
				if why := shell.Err(); why.Reason != session.Exited || !strings.Contains(why.Message, strconv.Itoa(tc.want.Code)) {
					t.Errorf("the session ended because of %v", why)
				}
				_, err := shell.Run(t.Context(), driver.Command{Shell: "true"}, nil, nil)
				wantOutcome(t, err, driver.NotStarted, session.Exited)
				if shell.Failure() != nil {
					t.Errorf("the connection is blamed: %v", shell.Failure())
				}
			})
		}
	})
}

func TestAKilledShellLeavesTheOutcomeUnknown(t *testing.T) {
	inEveryShell(t, func(t *testing.T, execer local) {
		shell := start(t, execer, nil)
		_, err := shell.Run(t.Context(), driver.Command{Shell: "kill -9 $$"}, nil, nil)
		wantOutcome(t, err, driver.Unknown, session.Exited)
	})
}
