//go:build !windows

package cp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/test/openssh"
)

// sshVariable holds the ssh command that leads to the server. With it, this program
// is the command cp and no test, so that it can run as a user whom permissions stop.
const sshVariable = "CONNPOOL_TEST_SSH"

func TestMain(m *testing.M) {
	if ssh := os.Getenv(sshVariable); ssh != "" {
		os.Exit(copyOverSSH(strings.Fields(ssh), os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func copyOverSSH(ssh, words []string) int {
	o := &options{Factory: &plugin.Factory{IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}}}
	var args []string
	for _, word := range words {
		switch word {
		case "-r":
			o.recursive = true
		case "-p":
			o.times = true
		default:
			args = append(args, word)
		}
	}
	err := o.complete(nil, args)
	if err == nil {
		err = o.over(context.Background(), func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
			command := exec.CommandContext(ctx, ssh[0], append(ssh[1:], "-s", "sftp")...)
			command.Stdin, command.Stdout = stdin, stdout
			return command.Run()
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// host is a real server, and a user whom its permissions stop.
type host struct {
	server *openssh.Server
	owner  *user.User
	// cp is this program, and ssh how both programs reach the server.
	cp, ssh string
	options []string
}

// newHost starts a server whose sftp has a umask of 027.
func newHost(t *testing.T, forced string) *host {
	t.Helper()
	h := &host{}
	var err error
	if h.owner, err = user.Current(); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		const name = "connpool-cp"
		remove, err := openssh.CreateUser(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(remove)
		if h.owner, err = user.Lookup(name); err != nil {
			t.Fatal(err)
		}
	}
	if h.server, err = openssh.Start(t.Context(), openssh.Options{User: h.owner.Username, Config: []string{"ForceCommand " + forced}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.server.Stop)
	h.prepare(t)
	return h
}

// prepare puts what both programs need where the user may read it.
func (h *host) prepare(t *testing.T) {
	t.Helper()
	directory := h.directory(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	h.cp = directory + "/cp"
	for name, file := range map[string]struct {
		data []byte
		mode fs.FileMode
	}{
		h.cp:                       {program, 0o755},
		directory + "/key":         {h.server.PrivateKey, 0o600},
		directory + "/known_hosts": {[]byte(h.server.KnownHosts + "\n"), 0o644},
	} {
		put(t, name, string(file.data), file.mode)
		h.own(t, name)
	}
	_, port, _ := strings.Cut(h.server.Addr, ":")
	h.options = []string{
		"-F", "none", "-i", directory + "/key", "-o", "UserKnownHostsFile=" + directory + "/known_hosts",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
		"-o", "ControlPath=" + directory + "/mux",
	}
	h.ssh = strings.Join(append(append([]string{"ssh", "-p", port}, h.options...), h.owner.Username+"@127.0.0.1"), " ")
	h.options = append(h.options, "-q", "-P", port)
	h.connect(t)
}

// connect makes the connection that all copies share.
func (h *host) connect(t *testing.T) {
	t.Helper()
	words := append(strings.Fields(h.ssh), "-M", "-N", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected")
	command := exec.Command(words[0], words[1:]...)
	h.become(t, command)
	printed, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	if line, err := bufio.NewReader(printed).ReadString('\n'); err != nil {
		t.Fatalf("no connection: %q, %v; the server's log: %s", line, err, h.server.Log())
	}
}

// become makes a command run as the user.
func (h *host) become(t *testing.T, command *exec.Cmd) {
	t.Helper()
	command.Env = append(os.Environ(), sshVariable+"="+h.ssh, "HOME="+h.owner.HomeDir)
	if os.Geteuid() == 0 {
		uid, gid := h.ids(t)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
}

// directory returns a new directory of the user.
func (h *host) directory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "cp-") //nolint:usetesting // that of t lies in one that is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	h.own(t, directory)
	return directory
}

func (h *host) own(t *testing.T, name string) {
	t.Helper()
	uid, gid := h.ids(t)
	if err := os.Lchown(name, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func (h *host) ids(t *testing.T) (uid, gid int) {
	t.Helper()
	uid, err := strconv.Atoi(h.owner.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if gid, err = strconv.Atoi(h.owner.Gid); err != nil {
		t.Fatal(err)
	}
	return uid, gid
}

// run runs a program as the user, whose umask is 077. It reports whether it succeeded.
func (h *host) run(t *testing.T, stdin string, words ...string) (output string, ok bool) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `umask 077; exec "$@"`, "sh"}, words...)...)
	h.become(t, command)
	command.Stdin = strings.NewReader(stdin)
	var printed bytes.Buffer
	command.Stdout, command.Stderr = &printed, &printed
	err := command.Run()
	if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return printed.String(), err == nil
}

// files describes what is in a directory: type, permissions, owner, links, content.
func (h *host) files(t *testing.T, directory string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for name, what := range listing(t, directory) {
		info, err := os.Lstat(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		found[name] = fmt.Sprintf("%s, owner %d, %d links", what, stat.Uid, stat.Nlink)
	}
	return found
}

// makeFunc prepares a directory in which the file d is the destination of a copy.
type makeFunc func(t *testing.T, h *host, directory string)

// holds returns a destination that is a file with some permissions.
func holds(mode fs.FileMode) makeFunc {
	return func(t *testing.T, h *host, directory string) {
		t.Helper()
		put(t, directory+"/d", "old", mode)
		h.own(t, directory+"/d")
	}
}

func linked(target string, mode fs.FileMode) makeFunc {
	return func(t *testing.T, h *host, directory string) {
		t.Helper()
		if mode.IsDir() {
			if err := os.Mkdir(directory+"/"+target, mode.Perm()); err != nil {
				t.Fatal(err)
			}
			h.own(t, directory+"/"+target)
		} else if mode != 0 {
			put(t, directory+"/"+target, "old", mode)
			h.own(t, directory+"/"+target)
		}
		if err := os.Symlink(target, directory+"/d"); err != nil {
			t.Fatal(err)
		}
		h.own(t, directory+"/d")
	}
}

func hardLinked(t *testing.T, h *host, directory string) {
	t.Helper()
	holds(0o640)(t, h, directory)
	if err := os.Link(directory+"/d", directory+"/other"); err != nil {
		t.Fatal(err)
	}
}

// closed makes a directory read-only after another preparation.
func closed(prepare makeFunc) makeFunc {
	return func(t *testing.T, h *host, directory string) {
		t.Helper()
		prepare(t, h, directory)
		if err := os.Chmod(directory, 0o555); err != nil {
			t.Fatal(err)
		}
	}
}

// ofRoot makes a file of another user, which everybody may write.
func ofRoot(t *testing.T, _ *host, directory string) {
	t.Helper()
	put(t, directory+"/d", "old", 0o666)
}

func nothing(*testing.T, *host, string) {}

func TestACopyLeavesWhatScpLeaves(t *testing.T) {
	h := newHost(t, "internal-sftp -u 0027")
	for _, c := range []struct {
		name        string
		source      fs.FileMode
		destination makeFunc
		flags       []string
		// unlike is what cp leaves where it differs from scp, from a target only.
		unlike string
	}{
		{name: "a new file", source: 0o666, destination: nothing},
		{name: "a new program", source: 0o777, destination: nothing},
		{name: "a new secret", source: 0o600, destination: nothing},
		{name: "a new file of a setuid program", source: fs.ModeSetuid | 0o755, destination: nothing},
		// scp adds the owner's right to write to what it downloads.
		{name: "a new file that is read-only", source: 0o444, destination: nothing, unlike: "-r-------- new"},
		{name: "a new file with its permissions", source: 0o666, destination: nothing, flags: []string{"-p"}},
		{name: "a new setuid program with its permissions", source: fs.ModeSetuid | 0o755, destination: nothing, flags: []string{"-p"}},
		{name: "a secret that exists", source: 0o644, destination: holds(0o600)},
		{name: "a program that exists", source: 0o644, destination: holds(0o755)},
		{name: "a file that exists and gets the permissions", source: 0o640, destination: holds(0o600), flags: []string{"-p"}},
		{name: "a file of another user", source: 0o644, destination: ofRoot},
		{name: "a file with two names", source: 0o644, destination: hardLinked},
		{name: "a link to a file", source: 0o644, destination: linked("file", 0o600)},
		{name: "a link to a directory", source: 0o644, destination: linked("sub", fs.ModeDir|0o755)},
		{name: "a link to nothing", source: 0o644, destination: linked("missing", 0)},
		{name: "a directory", source: 0o644, destination: func(t *testing.T, h *host, directory string) {
			t.Helper()
			if err := os.Mkdir(directory+"/d", 0o750); err != nil {
				t.Fatal(err)
			}
			h.own(t, directory+"/d")
		}},
		{name: "a read-only file", source: 0o644, destination: holds(0o400)},
		{name: "a file in a read-only directory", source: 0o644, destination: closed(holds(0o600))},
		{name: "a new file in a read-only directory", source: 0o644, destination: closed(nothing)},
	} {
		for _, way := range []string{"to a target", "from a target"} {
			t.Run(c.name+" "+way, func(t *testing.T) {
				results := map[string]map[string]string{}
				succeeded, printed := map[string]bool{}, ""
				for _, program := range []string{"scp", "cp"} {
					source, destination := h.directory(t), h.directory(t)
					put(t, source+"/s", "new", c.source)
					h.own(t, source+"/s")
					if err := os.Chmod(source+"/s", c.source); err != nil { // chown drops setuid
						t.Fatal(err)
					}
					c.destination(t, h, destination)
					words := h.words(program, c.flags, way == "to a target", source+"/s", destination+"/d")
					printed, succeeded[program] = h.run(t, "", words...)
					results[program] = h.files(t, destination)
				}
				want := results["scp"]
				if c.unlike != "" && way == "from a target" {
					want["d"] = fmt.Sprintf("%s, owner %s, 1 links", c.unlike, h.owner.Uid)
				}
				if diff := cmp.Diff(want, results["cp"]); diff != "" || succeeded["scp"] != succeeded["cp"] {
					t.Errorf("what is there (-scp +cp):\n%s\nsucceeded: %v; cp printed %s", diff, succeeded, printed)
				}
			})
		}
	}
}

// words returns the command line of a copy by either program.
func (h *host) words(program string, flags []string, up bool, source, destination string) []string {
	name, words := "web", []string{h.cp}
	if program == "scp" {
		name, words = h.owner.Username+"@127.0.0.1", append([]string{program}, h.options...)
	}
	if up {
		destination = name + ":" + destination
	} else {
		source = name + ":" + source
	}
	return append(append(words, flags...), source, destination)
}

// scp gives files the same, and ignores the umask of either side for directories.
func TestTheUmaskOfTheOtherSideIsRespectedInTrees(t *testing.T) {
	h := newHost(t, "internal-sftp -u 0027")
	for way, want := range map[string]map[string]string{
		"to a target": {
			"d": "drwxr-x---", "d/wide": "drwxr-x---", "d/closed": "dr-xr-x---",
			"d/wide/f": "-rw-r----- ", "d/closed/f": "-rw-r----- ", "d/run": "-rwxr-x--- ",
		},
		"from a target": {
			"d": "drwx------", "d/wide": "drwx------", "d/closed": "dr-x------",
			"d/wide/f": "-rw------- ", "d/closed/f": "-rw------- ", "d/run": "-rwx------ ",
		},
	} {
		t.Run(way, func(t *testing.T) {
			source, destination := h.directory(t), h.directory(t)
			for name, mode := range map[string]fs.FileMode{"tree/wide/f": 0o666, "tree/closed/f": 0o644, "tree/run": 0o755} {
				put(t, source+"/"+name, "", mode)
			}
			for name, mode := range map[string]fs.FileMode{"tree/wide": 0o777, "tree/closed": 0o555, "tree": 0o755} {
				if err := os.Chmod(source+"/"+name, mode); err != nil {
					t.Fatal(err)
				}
			}
			if printed, ok := h.run(t, "", h.words("cp", []string{"-r"}, way == "to a target", source+"/tree", destination+"/d")...); !ok {
				t.Error(printed)
			}
			if diff := cmp.Diff(want, listing(t, destination)); diff != "" {
				t.Errorf("what is there (-want +got):\n%s", diff)
			}
		})
	}
}

// What the shell of a host leaves after `cat >file`, with the umask of the server.
func TestAStreamLeavesWhatAShellLeaves(t *testing.T) {
	h := newHost(t, "internal-sftp -u 0027")
	for _, c := range []struct {
		name        string
		destination makeFunc
		want        map[string]string
	}{
		{"a new file", nothing, map[string]string{"d": "-rw-r----- new, owner %s, 1 links"}},
		{"a secret that exists", holds(0o600), map[string]string{"d": "-rw------- new, owner %s, 1 links"}},
		{"a file with two names", hardLinked, map[string]string{
			"d": "-rw-r----- new, owner %s, 2 links", "other": "-rw-r----- new, owner %s, 2 links",
		}},
		{"a link to a file", linked("file", 0o600), map[string]string{
			"d": "-> file, owner %s, 1 links", "file": "-rw------- new, owner %s, 1 links",
		}},
		{"a link to nothing", linked("missing", 0), map[string]string{
			"d": "-> missing, owner %s, 1 links", "missing": "-rw-r----- new, owner %s, 1 links",
		}},
		{"a file in a read-only directory", closed(holds(0o600)), map[string]string{"d": "-rw------- new, owner %s, 1 links"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			directory := h.directory(t)
			c.destination(t, h, directory)
			if printed, ok := h.run(t, "new", h.cp, "-", "web:"+directory+"/d"); !ok {
				t.Fatal(printed)
			}
			for name, format := range c.want {
				c.want[name] = fmt.Sprintf(format, h.owner.Uid)
			}
			if diff := cmp.Diff(c.want, h.files(t, directory)); diff != "" {
				t.Errorf("what is there (-want +got):\n%s", diff)
			}
			if printed, ok := h.run(t, "", h.cp, "web:"+directory+"/d", "-"); !ok || printed != "new" {
				t.Errorf("back came %q", printed)
			}
		})
	}
}

// scp waits for ever for the other end of a FIFO.
func TestNothingIsWrittenToOrReadFromAFIFO(t *testing.T) {
	h := newHost(t, "internal-sftp")
	directory := h.directory(t)
	put(t, directory+"/file", "", 0o644)
	h.own(t, directory+"/file")
	if err := syscall.Mkfifo(directory+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{directory + "/file", "web:" + directory + "/fifo"},
		{"web:" + directory + "/file", directory + "/fifo"},
		{"web:" + directory + "/fifo", directory + "/new"},
		{directory + "/fifo", "web:" + directory + "/new"},
		{"-", "web:" + directory + "/fifo"},
		{"web:" + directory + "/fifo", "-"},
	} {
		if printed, ok := h.run(t, "", append([]string{h.cp}, words...)...); ok || !strings.Contains(printed, "not a regular file") && !strings.Contains(printed, "neither a file") {
			t.Errorf("cp %q: %s", words, printed)
		}
	}
	if info, err := os.Lstat(directory + "/fifo"); err != nil || info.Mode()&fs.ModeNamedPipe == 0 || len(listing(t, directory)) != 2 {
		t.Errorf("the FIFO is %v, %v; there is %v", info, err, listing(t, directory))
	}
}

// internal-sftp takes a list of the requests that it refuses.
func TestServersThatRefuseRequestsStillGetFiles(t *testing.T) {
	for _, c := range []struct {
		name, refused string
		words         []string
		want          string // what file a on the target is
		says          string
		fails         bool
	}{
		{"to set permissions", "setstat,fsetstat", []string{"L:a", "R:a"}, "-rw-r----- new", "", false},
		{"to set permissions that are asked for", "setstat,fsetstat", []string{"-p", "L:a", "R:a"}, "-rw-r----- new", `copied, but the times cannot be set: "`, false},
		{"to set those of a tree", "setstat,fsetstat", []string{"-r", "-p", "L:.", "R:"}, "-rw-r----- new", "copied, but the permissions cannot be set: ", false},
		{"to rename at once", "posix-rename", []string{"L:a", "R:a"}, "-rw-r----- new", "", false},
		{"to rename", "posix-rename,rename", []string{"L:a", "R:a"}, "-rw-r----- new", "", false},
		{"to rename a tree", "posix-rename,rename", []string{"-r", "L:.", "R:"}, "-rw-r----- new", "", false},
		{"to rename or remove", "posix-rename,rename,remove", []string{"L:a", "R:a"}, "-rw-r----- new", "left behind, because it cannot be removed: ", false},
		{"to rename a stream", "posix-rename,rename", []string{"-", "R:a"}, "", "which cannot be renamed", true},
		{"to remove", "remove", []string{"L:a", "R:a"}, "-rw-r----- new", "", false},
		{"to look", "stat,lstat", []string{"-", "R:a"}, "-rw-r----- new", "", false},
		{"to make directories", "mkdir", []string{"-r", "L:", "R:tree"}, "", "tree", true},
		{"to write", "open", []string{"L:a", "R:a"}, "", "no file can be made in the directory", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := openssh.Start(t.Context(), openssh.Options{Config: []string{"ForceCommand internal-sftp -u 0027 -P " + c.refused}})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Stop()
			test := newCopyTest(t)
			test.in.WriteString("new")
			put(t, test.local+"/a", "new", 0o640)
			put(t, test.local+"/b/link", "new", 0o640)
			err = test.run(t, sftpOf(t, server), append([]string{"-q"}, c.words...)...)
			if says := textOf(err) + test.problem.String(); (err != nil) != c.fails || !strings.Contains(says, c.says) || c.says == "" && says != "" {
				t.Errorf("error %v, printed %s", err, &test.problem)
			}
			if got := listing(t, test.remote)["a"]; got != c.want {
				t.Errorf("the file is %q, want %q; there is %v", got, c.want, listing(t, test.remote))
			}
		})
	}
}
