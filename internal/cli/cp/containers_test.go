package cp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cp/container"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/cli/remote"
)

// programs returns what runs programs as a container with these programs does: those
// that are named, from the folder.
func programs(bin string) container.Run {
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		program := filepath.Join(bin, argv[0])
		if _, err := os.Stat(program); err != nil {
			return &client.ExitError{Code: 127}
		}
		cmd := exec.CommandContext(ctx, program, argv[1:]...)
		cmd.Env = []string{"PATH=" + bin, "HOME=/nonexistent"}
		cmd.Dir = "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		if ended, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
			return &client.ExitError{Code: ended.ExitCode()}
		}
		return err
	}
}

// toolsets are the programs of a Debian image, and those of an image of busybox.
func toolsets(t *testing.T) map[string]container.Run {
	t.Helper()
	return map[string]container.Run{"coreutils": programs("/usr/bin"), "busybox": programs(busybox(t))}
}

// busybox returns a folder with the programs of busybox, without some.
func busybox(t *testing.T, without ...string) string {
	t.Helper()
	bin := t.TempDir()
	applets, err := exec.CommandContext(t.Context(), "/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatalf("install busybox-static: %v", err)
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		program := "/bin/busybox"
		switch {
		case slices.Contains(without, applet):
			continue
		case applet == "sh" && len(without) > 0:
			program = "/bin/sh" // that of busybox has all applets in itself
		}
		if err := os.Symlink(program, filepath.Join(bin, applet)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// runIn copies to and from a container; L: and R: stand for the two directories.
func (c *copyTest) runIn(t *testing.T, run container.Run, words ...string) error {
	t.Helper()
	return c.runInWith(t.Context(), t, &c.in, run, words...)
}

func (c *copyTest) runInWith(ctx context.Context, t *testing.T, in io.Reader, run container.Run, words ...string) error {
	t.Helper()
	o := &options{
		Factory: &plugin.Factory{IOStreams: genericiooptions.IOStreams{In: in, Out: &c.out, ErrOut: &c.problem}},
		place:   remote.Place{Container: "web"},
		digests: c.digests,
	}
	var args []string
	for _, word := range words {
		switch word {
		case "-r":
			o.recursive = true
		case "-p":
			o.times = true
		case "--resume":
			o.resume = true
		default:
			word = strings.Replace(word, "L:", c.local+"/", 1)
			args = append(args, strings.Replace(word, "R:", "ci:"+c.remote+"/", 1))
		}
	}
	if err := o.complete(nil, args); err != nil {
		t.Fatal(err)
	}
	o.again = "cp --resume"
	return o.inContainer(ctx, run)
}

// sides returns the directories of a source and a destination.
func (c *copyTest) sides(from string) (source, destination string) {
	if from == "L:" {
		return c.local, c.remote
	}
	return c.remote, c.local
}

var ways = []struct{ name, from, to string }{{"to a container", "L:", "R:"}, {"from a container", "R:", "L:"}}

func TestATreeArrivesInAContainerAndComesBack(t *testing.T) {
	for tools, run := range toolsets(t) {
		for _, c := range ways {
			t.Run(tools+" "+c.name, func(t *testing.T) {
				test := newCopyTest(t)
				source, destination := test.sides(c.from)
				put(t, source+"/tree/a", "one", 0o640)
				put(t, source+"/tree/sub/run.sh", strings.Repeat("two", 100_000), 0o755)
				put(t, source+"/tree/sub/empty", "", 0o400)
				put(t, source+"/tree/-rf * 'quoted'\n", "odd", 0o644)
				put(t, source+"/tree/"+strings.Repeat("long/", 40)+strings.Repeat("n", 200), "deep", 0o644)
				put(t, source+"/tree/closed/file", "in", 0o644)
				for link, target := range map[string]string{"sub/up": "../a", "loop": "loop", "out": "../../etc", "abs": "/etc/passwd"} {
					if err := os.Symlink(target, source+"/tree/"+link); err != nil {
						t.Fatal(err)
					}
				}
				old := time.Unix(1_500_000_000, 0)
				for _, name := range []string{"/tree/a", "/tree/closed"} {
					if err := os.Chtimes(source+name, old, old); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chmod(source+"/tree/closed", 0o555); err != nil {
					t.Fatal(err)
				}
				err := test.runIn(t, run, "-r", "-p", c.from+"tree", c.to+"copy")
				if err == nil || !strings.Contains(test.problem.String(), "tree/out") || !strings.Contains(test.problem.String(), "tree/abs") {
					t.Errorf("error %v, output %q; want both links that leave the tree reported", err, &test.problem)
				}
				want := listing(t, source+"/tree")
				delete(want, "out")
				delete(want, "abs")
				if diff := cmp.Diff(want, listing(t, destination+"/copy")); diff != "" {
					t.Errorf("what arrived (-want +got):\n%s", diff)
				}
				for _, name := range []string{"/copy/a", "/copy/closed"} {
					if info, err := os.Stat(destination + name); err != nil || !info.ModTime().Equal(old) {
						t.Errorf("%s: %v, modified at %v, want %v", name, err, info.ModTime(), old)
					}
				}
				wantNames(t, destination, "copy")
			})
		}
	}
}

// wantNames checks which names a directory has.
func wantNames(t *testing.T, directory string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("names in %s (-want +got):\n%s", directory, diff)
	}
}

func TestNamesInContainersAreChosenAsByCp(t *testing.T) {
	for _, c := range []struct {
		name  string
		words []string
		want  string // where the file a is afterwards
	}{
		{"a new name", []string{"L:a", "R:b"}, "R:b"},
		{"a file in place of one", []string{"R:a", "L:x"}, "L:x"},
		{"into a directory", []string{"L:a", "R:dir"}, "R:dir/a"},
		{"into a directory with a slash", []string{"R:a", "L:dir/"}, "L:dir/a"},
		{"several files into a directory", []string{"L:a", "L:x", "R:dir"}, "R:dir/a"},
		{"several files from a container", []string{"R:a", "R:x", "L:dir"}, "L:dir/a"},
		{"a directory into a directory", []string{"-r", "R:tree", "L:dir"}, "L:dir/tree/a"},
		{"a directory into a directory of the container", []string{"-r", "L:tree", "R:dir"}, "R:dir/tree/a"},
		{"a directory under a new name", []string{"-r", "L:tree", "R:new"}, "R:new/a"},
		{"the content of a directory", []string{"-r", "L:tree/.", "R:new"}, "R:new/a"},
		{"the content of a directory into one that exists", []string{"-r", "L:tree/.", "R:dir"}, "R:dir/a"},
		{"the content of a container's directory into one that exists", []string{"-r", "R:tree/.", "L:dir"}, "L:dir/a"},
		{"through a link to a file", []string{"L:a", "R:link"}, "R:linked"},
		{"a file with -r", []string{"-r", "R:a", "L:b"}, "L:b"},
	} {
		for tools, run := range toolsets(t) {
			t.Run(tools+" "+c.name, func(t *testing.T) {
				test := newCopyTest(t)
				for _, side := range []string{test.local, test.remote} {
					put(t, side+"/a", "content", 0o644)
					put(t, side+"/x", "x", 0o644)
					put(t, side+"/tree/a", "content", 0o644)
					put(t, side+"/dir/keep", "", 0o644)
					put(t, side+"/linked", "old", 0o644)
					if err := os.Symlink("linked", side+"/link"); err != nil {
						t.Fatal(err)
					}
				}
				if err := test.runIn(t, run, c.words...); err != nil {
					t.Fatal(err, &test.problem)
				}
				name := strings.NewReplacer("L:", test.local+"/", "R:", test.remote+"/").Replace(c.want)
				if data, err := os.ReadFile(name); err != nil || string(data) != "content" {
					t.Errorf("%s holds %q: %v", c.want, data, err)
				}
			})
		}
	}
}

func TestAFileThatExistsInAContainerIsWrittenInPlace(t *testing.T) {
	for tools, run := range toolsets(t) {
		for _, words := range [][]string{{"L:f", "R:f"}, {"-r", "L:.", "R:."}} {
			t.Run(tools+" "+words[0], func(t *testing.T) {
				test := newCopyTest(t)
				put(t, test.local+"/f", "new", 0o755)
				put(t, test.remote+"/f", "older", 0o600)
				if err := os.Link(test.remote+"/f", test.remote+"/same"); err != nil {
					t.Fatal(err)
				}
				if err := test.runIn(t, run, words...); err != nil {
					t.Fatal(err, &test.problem)
				}
				want := map[string]string{"f": "-rw------- new", "same": "-rw------- new"}
				if diff := cmp.Diff(want, listing(t, test.remote)); diff != "" {
					t.Errorf("what is there (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestNewFilesInAContainerGetItsUmask(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	for tools, run := range toolsets(t) {
		for _, words := range [][]string{{"L:tree/f", "R:f"}, {"-r", "L:tree/.", "R:new"}, {"-", "R:f"}} {
			t.Run(tools+" "+words[0], func(t *testing.T) {
				test := newCopyTest(t)
				put(t, test.local+"/tree/f", "", 0o777|fs.ModeSetuid)
				if err := test.runIn(t, run, words...); err != nil {
					t.Fatal(err, &test.problem)
				}
				for name, got := range listing(t, test.remote) {
					if !strings.HasPrefix(got, "-rwxr-x---") && !strings.HasPrefix(got, "drwxr-x---") && !strings.HasPrefix(got, "-rw-r-----") {
						t.Errorf("%s is %s", name, got)
					}
				}
			})
		}
	}
}

func TestStandardStreamsAreCopiedInContainers(t *testing.T) {
	for tools, run := range toolsets(t) {
		t.Run(tools, func(t *testing.T) {
			test := newCopyTest(t)
			content := strings.Repeat("0123456789\x00", 200_000)
			for _, file := range []string{"R:new", "R:file"} {
				test.in.Reset()
				test.in.WriteString(content)
				test.out.Reset()
				put(t, test.remote+"/file", "old", 0o640)
				if err := test.runIn(t, run, "-", file); err != nil {
					t.Fatal(err)
				}
				if err := test.runIn(t, run, file, "-"); err != nil {
					t.Fatal(err)
				}
				if test.out.String() != content {
					t.Errorf("standard output got %d bytes, want %d", test.out.Len(), len(content))
				}
			}
			wantNames(t, test.remote, "file", "new")
		})
	}
}

func TestErrorsInContainersNameTheWholePath(t *testing.T) {
	for _, c := range []struct {
		name  string
		words []string
		want  string
	}{
		{"a source that is missing", []string{"R:dir/none", "L:a"}, `R:dir/none" does not exist`},
		{"a local source that is missing", []string{"L:dir/none", "R:a"}, `L:dir/none" does not exist`},
		{"a directory without -r", []string{"R:dir", "L:new"}, "add -r"},
		{"a local directory without -r", []string{"L:dir", "R:new"}, "add -r"},
		{"a parent that is missing", []string{"L:a", "R:none/b"}, `R:none" does not exist`},
		{"a parent of a tree that is missing", []string{"-r", "L:dir", "R:none/b"}, `R:none" does not exist`},
		{"a directory that is missing", []string{"R:a", "L:none/"}, `L:none/" does not exist`},
		{"a directory of the container that is missing", []string{"L:a", "R:none/"}, `R:none/" does not exist`},
		{"several files to a file", []string{"L:a", "L:x", "R:a"}, "is not a directory"},
		{"standard input to a directory", []string{"-", "R:dir"}, "is a directory"},
		{"a directory to standard output", []string{"R:dir", "-"}, "it is not a regular file"},
		{"a FIFO", []string{"R:fifo", "L:new"}, "neither a file nor a directory"},
		{"onto a FIFO", []string{"L:a", "R:fifo"}, "not replaced"},
		{"a tree over a file", []string{"-r", "L:dir", "R:a"}, "in the way"},
	} {
		for tools, run := range toolsets(t) {
			t.Run(tools+" "+c.name, func(t *testing.T) {
				test := newCopyTest(t)
				for _, side := range []string{test.local, test.remote} {
					put(t, side+"/a", "content", 0o644)
					put(t, side+"/x", "x", 0o644)
					put(t, side+"/dir/keep", "", 0o644)
				}
				if err := syscall.Mkfifo(test.remote+"/fifo", 0o600); err != nil {
					t.Fatal(err)
				}
				err := test.runIn(t, run, c.words...)
				text := textOf(err) + test.problem.String()
				want := strings.NewReplacer("L:", test.local+"/", "R:", test.remote+"/").Replace(c.want)
				if err == nil || !strings.Contains(text, want) {
					t.Errorf("error %q, want one with %q", text, want)
				}
				wantNames(t, test.local, "a", "dir", "x")
				wantNames(t, test.remote, "a", "dir", "fifo", "x")
			})
		}
	}
}

func TestWhatATreeCannotReplaceInAContainerStaysBehind(t *testing.T) {
	for tools, run := range toolsets(t) {
		t.Run(tools, func(t *testing.T) {
			test := newCopyTest(t)
			put(t, test.local+"/tree/sub/file", "new", 0o644)
			put(t, test.local+"/tree/subway", "new", 0o644)
			put(t, test.local+"/tree/dir", "new", 0o644)
			put(t, test.remote+"/into/other/file", "old", 0o600)
			put(t, test.remote+"/into/dir/file", "old", 0o600)
			if err := os.Symlink("other", test.remote+"/into/sub"); err != nil {
				t.Fatal(err)
			}
			err := test.runIn(t, run, "-r", "L:tree/.", "R:into")
			if err == nil || strings.Count(test.problem.String(), "not copied: ") != 2 ||
				!strings.Contains(test.problem.String(), test.remote+"/into/sub is in the way, so nothing in it was copied") {
				t.Errorf("error %v, printed %q; want a line about each", err, &test.problem)
			}
			want := map[string]string{
				"into": "drwxr-xr-x", "into/other": "drwxr-xr-x", "into/other/file": "-rw------- old", "into/sub": "-> other",
				"into/subway": "-rw-r--r-- new", "into/dir": "drwxr-xr-x", "into/dir/file": "-rw------- old",
			}
			if diff := cmp.Diff(want, listing(t, test.remote)); diff != "" {
				t.Errorf("what is there (-want +got):\n%s", diff)
			}
		})
	}
}

// ending cuts the streams of the program that a script starts, after some bytes.
func ending(run container.Run, script string, after int64, cut error) container.Run {
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		if !strings.Contains(argv[2], script) {
			return run(ctx, argv, stdin, stdout, stderr)
		}
		if stdin != nil {
			stdin = io.LimitReader(stdin, after)
		}
		limited := &limitedWriter{Writer: stdout, left: after}
		err := run(ctx, argv, stdin, limited, stderr)
		if cut != nil {
			return cut
		}
		return err
	}
}

type limitedWriter struct {
	io.Writer

	left int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	n := min(int64(len(p)), l.left)
	l.left -= n
	if _, err := l.Writer.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// The classic fault: the stream ends early, and everything seems well.
func TestATruncatedStreamOfAContainerIsAnError(t *testing.T) {
	broken := &client.Error{Outcome: "Unknown", Reason: "Unreachable", Message: "the connection broke"}
	for tools, run := range toolsets(t) {
		for _, c := range []struct {
			name, script string
			after        int64
			words        []string
		}{
			{"a file comes", `exec cat "$1"`, 1000, []string{"R:tree/a", "L:new"}},
			{"a file comes whole but for a byte", `exec cat "$1"`, 3015, []string{"R:tree/a", "L:new"}},
			{"a file goes", `cat >"$1"`, 1000, []string{"L:tree/a", "R:new"}},
			{"a stream goes", `cat >"$1"`, 1000, []string{"-", "R:new"}},
			{"a tree comes, cut in a file", "tar cf", 2000, []string{"-r", "R:tree", "L:new"}},
			{"a tree comes, cut behind a file", "tar cf", 512 + 512 + 3072, []string{"-r", "R:tree", "L:new"}},
			{"a tree comes without its end", "tar cf", 512 + 2*(512+3072), []string{"-r", "R:tree", "L:new"}},
			{"a tree goes, cut in a file", "exec tar", 2000, []string{"-r", "L:tree", "R:new"}},
			{"a tree goes, cut behind a file", "exec tar", 512 + 512 + 3072, []string{"-r", "L:tree", "R:new"}},
		} {
			for _, cut := range []error{nil, broken} {
				t.Run(fmt.Sprint(tools, " ", c.name, " ", cut), func(t *testing.T) {
					test := newCopyTest(t)
					for _, side := range []string{test.local, test.remote} {
						put(t, side+"/tree/a", strings.Repeat("a", 3000), 0o644)
						put(t, side+"/tree/b", strings.Repeat("b", 3000), 0o644)
					}
					test.in.WriteString(strings.Repeat("in", 3000))
					err := test.runIn(t, ending(run, c.script, c.after, cut), c.words...)
					if err == nil {
						t.Errorf("no error; printed %q", &test.problem)
					}
					if cut != nil && !errors.Is(err, client.ErrUnknown) {
						t.Errorf("error %v, want the one that broke it", err)
					}
					for _, side := range []string{test.local, test.remote} {
						if info, err := os.Stat(side + "/new"); err == nil && !info.IsDir() {
							t.Error("half of the file has its name")
						}
					}
					wantNames(t, test.remote, "tree")
				})
			}
		}
	}
}

func TestCtrlCDuringACopyToAContainerCleansUp(t *testing.T) {
	for tools, run := range toolsets(t) {
		for _, words := range [][]string{{"L:big", "R:big"}, {"-r", "L:.", "R:new"}, {"R:big", "L:new"}, {"-r", "R:.", "L:new"}} {
			t.Run(fmt.Sprint(tools, words), func(t *testing.T) {
				test := newCopyTest(t)
				source, destination := test.sides(strings.TrimLeft(words[len(words)-2], "-r")[:2])
				put(t, source+"/big", strings.Repeat("big", 1_000_000), 0o644)
				ctx, cancel := context.WithCancel(t.Context())
				err := test.runInWith(ctx, t, nil, func(
					ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer,
				) error {
					limit := &budget{left: 500_000, spent: cancel}
					if stdin != nil {
						stdin = budgetReader{limit, stdin}
					}
					return run(ctx, argv, stdin, budgetWriter{limit, stdout}, stderr)
				}, words...)
				if !errors.Is(err, context.Canceled) || err.Error() != "interrupted before everything was copied" {
					t.Errorf("error %v, want that it was interrupted", err)
				}
				for name := range listing(t, destination) {
					if name != "new" {
						t.Errorf("%s was left", name)
					}
				}
			})
		}
	}
}

func TestAContainerWithoutTarCopiesSingleFiles(t *testing.T) {
	run := programs(busybox(t, "tar"))
	test := newCopyTest(t)
	put(t, test.local+"/tree/a", "there and back", 0o750)
	if err := test.runIn(t, run, "-p", "L:tree/a", "R:b"); err != nil {
		t.Error(err)
	}
	if err := test.runIn(t, run, "-p", "R:b", "L:c"); err != nil {
		t.Error(err)
	}
	if got := listing(t, test.local)["c"]; got != "-rwxr-x--- there and back" {
		t.Errorf("it came back as %q", got)
	}
	for _, words := range [][]string{{"-r", "L:tree", "R:d"}, {"-r", "R:", "L:d"}} {
		err := test.runIn(t, run, words...)
		if err == nil || !strings.Contains(err.Error(), "no tar") || !strings.Contains(exit.HintOf(err), "-- cat FILE >FILE") {
			t.Errorf("%v: error %v, want the way out", words, err)
		}
	}
	wantNames(t, test.remote, "b")
}

func TestAFileThatGrowsIsCopiedAsLongAsItWas(t *testing.T) {
	for tools, run := range toolsets(t) {
		t.Run(tools, func(t *testing.T) {
			test := newCopyTest(t)
			put(t, test.remote+"/log", "line 1\n", 0o644)
			growing := func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
				err := run(ctx, argv, stdin, stdout, stderr)
				if strings.Contains(argv[2], `exec cat "$1"`) {
					_, _ = io.WriteString(stdout, "line 2\n")
				}
				return err
			}
			if err := test.runIn(t, growing, "R:log", "L:log"); err != nil {
				t.Fatal(err)
			}
			if got := listing(t, test.local)["log"]; got != "-rw-r--r-- line 1\n" {
				t.Errorf("it is %q", got)
			}
		})
	}
}

func TestAContainerWithoutAShellIsExplained(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.local+"/a", "", 0o644)
	for _, words := range [][]string{{"L:a", "R:b"}, {"R:a", "L:b"}, {"-", "R:b"}, {"R:a", "-"}} {
		err := test.runIn(t, programs(t.TempDir()), words...)
		if err == nil || !strings.Contains(err.Error(), "no shell") || !strings.Contains(exit.HintOf(err), "docker cp") {
			t.Errorf("%v: error %v, want the way out", words, err)
		}
	}
}
