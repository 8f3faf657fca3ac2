package ssh

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/openssh"
)

// loginShells are all that Debian has, by their programs.
var loginShells = []string{
	"dash", "bash", "rbash", "zsh", "rzsh", "ksh93", "rksh93", "mksh", "lksh", "fish", "bsd-csh", "tcsh", "busybox", "yash", "posh",
}

// dialWithLoginShell connects to a real sshd as a user with the login shell.
func dialWithLoginShell(t *testing.T, shell string) *conn {
	t.Helper()
	options := openssh.Options{Dir: dirForUser(t)}
	program, err := exec.LookPath(shell)
	if err != nil {
		t.Fatalf("%v; hack/install-test-deps.sh installs it", err)
	}
	if shell == "busybox" { // it goes by its name
		program = filepath.Join(options.Dir, "ash")
		if err := os.Symlink("/bin/busybox", program); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		options.User = newUser(t, program)
	} else { // this is how sshd starts a login shell
		options.Config = []string{"ForceCommand exec " + program + ` -c "$SSH_ORIGINAL_COMMAND"`}
	}
	server, err := openssh.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return mustDial(t, Options{}, endpointOf(server.Addr, server.User, server.KnownHosts, server.PrivateKey))
}

// words makes arguments that shells are known to misread, and whatever else bytes can
// be. What runs a piece of them makes a file called ran.
type words struct {
	*rand.Rand

	pieces []string
	ascii  bool
}

func newWords(ran string, ascii bool) words {
	touch := "touch " + ran
	return words{rand.New(rand.NewPCG(1, 2)), []string{
		"'", `\`, "!", "\n", `"`, "`" + touch + "`", "$(" + touch + ")", "(" + touch + ")", "; " + touch + ";", "| " + touch + " |",
		"& " + touch + " &", "\n" + touch + "\n", `\'; ` + touch + " #", "'\n" + touch + "\n'", "!!", "!#", "^a^b", "~", "*", "?", "{a,b}",
		"[a-z]", "%1", "#", "$HOME", "$?x", "${x}", "=ls", "&", "|", "<", ">", "\r", "\t", " ", "\x01", "\x7f", `\n`, "\\\n", "\u00e9", "\xff", "-n", "--",
	}, ascii}
}

func (w words) next(newline bool) string {
	var word strings.Builder
	for range w.IntN(12) {
		if w.IntN(2) == 0 {
			word.WriteString(w.pieces[w.IntN(len(w.pieces))])
		} else {
			word.WriteByte(byte(1 + w.IntN(255)))
		}
	}
	text := []byte(word.String())
	if w.IntN(400) == 0 {
		text = bytes.Repeat(text, 10000/(len(text)+1))
	}
	for i, b := range text {
		if w.ascii && b >= 0x80 || !newline && b == '\n' {
			text[i] = 'x'
		}
	}
	return string(text)
}

func TestEveryLoginShellGivesArgumentsBackByteForByteAndRunsNoneOfThem(t *testing.T) {
	const batches, batch = 25, 400
	for _, shell := range loginShells {
		t.Run(shell, func(t *testing.T) {
			conn := dialWithLoginShell(t, shell)
			ran := filepath.Join(dirForUser(t), "ran")
			if err := os.Chmod(filepath.Dir(ran), 0o777); err != nil { // whatever runs must be able to tell
				t.Fatal(err)
			}
			// yash refuses bytes that are no characters in its locale, and then runs nothing.
			words := newWords(ran, shell == "yash")
			for i := range batches {
				argv, want := []string{"env", "printf", `%s\000`}, new(strings.Builder)
				for range batch {
					word := words.next(i%2 == 0)
					argv = append(argv, word)
					want.WriteString(word + "\x00")
				}
				wantOutput(t, conn, argv, want.String())
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("a piece of an argument was executed")
			}
		})
	}
}

func wantOutput(t *testing.T, conn *conn, argv []string, want string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status, err := conn.Exec(t.Context(), driver.Command{Argv: argv}, driver.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil || status.Code != 0 || stderr.Len() > 0 {
		t.Errorf("%+v, %v: %.200s", status, err, stderr.String())
	}
	got := strings.Split(stdout.String(), "\x00")
	for i, word := range strings.Split(want, "\x00") {
		if i >= len(got) || got[i] != word {
			t.Errorf("argument %d, %q, did not arrive", i, word)
			return
		}
	}
}

func TestAWholeScriptAndItsEndArriveInEveryLoginShell(t *testing.T) {
	for _, shell := range loginShells {
		t.Run(shell, func(t *testing.T) {
			conn := dialWithLoginShell(t, shell)
			wantOutput(t, conn, []string{"sh", "-c", "for a do\n\techo \"$a!\"\ndone\n", "sh", "it's", `\`}, "it's!\n\\!\n")
			status, err := conn.Exec(t.Context(), driver.Command{Argv: []string{"sh", "-c", "kill -9 $$\n"}}, driver.Streams{})
			if err != nil || status.Code != 137 {
				t.Errorf("a signal became %+v, %v", status, err)
			}
			status, err = conn.Exec(t.Context(), driver.Command{Argv: []string{"no-such\nprogram"}}, driver.Streams{})
			if err != nil || status.Code != 127 {
				t.Errorf("a program that does not exist became %+v, %v", status, err)
			}
		})
	}
}

func TestACommandThatNoLoginShellCanBeGivenIsNotStarted(t *testing.T) {
	_, endpoint := startOpenSSH(t)
	conn := mustDial(t, Options{}, endpoint)
	wantOutput(t, conn, []string{"env", "printf", "%s", strings.Repeat("x", 120<<10)}, strings.Repeat("x", 120<<10))
	_, err := conn.Exec(t.Context(), driver.Command{Argv: []string{"echo", strings.Repeat("'", 100<<10)}}, driver.Streams{})
	if refused := wantError(t, err, driver.ProtocolError, driver.StageStart); refused.Started {
		t.Error("it counts as started")
	}
}
