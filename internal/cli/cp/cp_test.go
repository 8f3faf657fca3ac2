package cp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/sftp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/cp/location"
	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

func TestCopiesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, c := range []struct{ name, words, want string }{
		{"nothing is remote", "a b", "neither"},
		{"both are remote", "web:a web:b", "remote"},
		{"the sources are of two pools", "web:a db:b c", "different pools or targets"},
		{"standard input beside another file", "- a web:b", "exactly one"},
		{"an empty path", "web:a ", "empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &options{}
			if err := o.complete(nil, strings.Split(c.words, " ")); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

// served serves sftp in process, as the subsystem of a target would.
func served(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	server, err := sftp.NewServer(pipe{stdin, stdout})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

type pipe struct {
	io.Reader
	io.Writer
}

func (p pipe) Close() error {
	if closer, ok := p.Reader.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// copyTest is a copy between two directories.
type copyTest struct {
	local, remote    string
	in, out, problem bytes.Buffer
	// digests verifies what arrives, if not nil.
	digests *digest.Tool
}

func newCopyTest(t *testing.T) *copyTest {
	t.Helper()
	c := &copyTest{local: t.TempDir(), remote: t.TempDir()}
	return c
}

// run copies; L: and R: stand for the two directories.
func (c *copyTest) run(t testing.TB, subsystem sftpclient.Subsystem, words ...string) error {
	t.Helper()
	return c.runWith(t, &c.in, subsystem, words...)
}

func (c *copyTest) runWith(t testing.TB, in io.Reader, subsystem sftpclient.Subsystem, words ...string) error {
	t.Helper()
	o := &options{
		Factory: &plugin.Factory{IOStreams: genericiooptions.IOStreams{In: in, Out: &c.out, ErrOut: &c.problem}},
		digests: c.digests, again: "cp --resume",
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
		case "-q":
			o.quiet = true
		case "--parallel=1", "--parallel=3":
			o.streams = int(word[len(word)-1] - '0')
		default:
			word = strings.Replace(word, "L:", c.local+"/", 1)
			args = append(args, strings.Replace(word, "R:", "web:"+c.remote+"/", 1))
		}
	}
	again := o.again
	if err := o.complete(nil, args); err != nil {
		t.Fatal(err)
	}
	o.again = again
	return o.over(t.Context(), subsystem)
}

func put(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// listing returns what is in a directory: names, permissions, contents and links.
func listing(t *testing.T, directory string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(directory, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == directory {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		short, _ := filepath.Rel(directory, name)
		switch {
		case info.Mode().IsRegular():
			data, _ := os.ReadFile(name)
			found[short] = info.Mode().String() + " " + string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			found[short] = "-> " + target
		default:
			found[short] = info.Mode().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestATreeArrivesWithPermissionsAndLinks(t *testing.T) {
	for _, c := range []struct{ name, from, to string }{{"to a target", "L:", "R:"}, {"from a target", "R:", "L:"}} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			source, destination := test.local, test.remote
			if c.from == "R:" {
				source, destination = destination, source
			}
			put(t, source+"/tree/a", "one", 0o640)
			put(t, source+"/tree/sub/run.sh", strings.Repeat("two", 100_000), 0o755)
			put(t, source+"/tree/sub/empty", "", 0o400)
			for link, target := range map[string]string{"sub/up": "../a", "loop": "loop", "out": "../../etc", "abs": "/etc/passwd"} {
				if err := os.Symlink(target, source+"/tree/"+link); err != nil {
					t.Fatal(err)
				}
			}
			old := time.Unix(1_500_000_000, 0)
			for _, name := range []string{"/tree/a", "/tree/sub"} {
				if err := os.Chtimes(source+name, old, old); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(source+"/tree/sub", 0o555); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(source+"/tree/sub", 0o755); _ = os.Chmod(destination+"/copy/sub", 0o755) })

			err := test.run(t, served, "-r", "-p", c.from+"tree", c.to+"copy")
			if err == nil || !strings.Contains(test.problem.String(), "tree/out") || !strings.Contains(test.problem.String(), "tree/abs") {
				t.Errorf("error %v, output %q; want both links that leave the tree reported", err, &test.problem)
			}
			want := listing(t, source+"/tree")
			delete(want, "out")
			delete(want, "abs")
			if diff := cmp.Diff(want, listing(t, destination+"/copy")); diff != "" {
				t.Errorf("what arrived (-want +got):\n%s", diff)
			}
			for _, name := range []string{"/copy/a", "/copy/sub"} {
				if info, err := os.Stat(destination + name); err != nil || !info.ModTime().Equal(old) {
					t.Errorf("%s: %v, modified at %v, want %v", name, err, info.ModTime(), old)
				}
			}
		})
	}
}

func TestNamesAreChosenAsByCp(t *testing.T) {
	for _, c := range []struct {
		name  string
		words []string
		want  string // where the file a is afterwards
	}{
		{"a new name", []string{"L:a", "R:b"}, "R:b"},
		{"into a directory", []string{"L:a", "R:dir"}, "R:dir/a"},
		{"into a directory with a slash", []string{"R:a", "L:dir/"}, "L:dir/a"},
		{"several files into a directory", []string{"L:a", "L:x", "R:dir"}, "R:dir/a"},
		{"a directory into a directory", []string{"-r", "R:tree", "L:dir"}, "L:dir/tree/a"},
		{"a directory under a new name", []string{"-r", "L:tree", "R:new"}, "R:new/a"},
		{"the content of a directory", []string{"-r", "L:tree/.", "R:new"}, "R:new/a"},
		{"the content of a local directory into one that exists", []string{"-r", "L:tree/.", "R:dir"}, "R:dir/a"},
		{"the content of a remote directory into one that exists", []string{"-r", "R:tree/.", "L:dir"}, "L:dir/a"},
		{"through a link to a file", []string{"R:a", "L:link"}, "L:linked"},
	} {
		t.Run(c.name, func(t *testing.T) {
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
			if err := test.run(t, served, c.words...); err != nil {
				t.Fatal(err)
			}
			name := strings.NewReplacer("L:", test.local+"/", "R:", test.remote+"/").Replace(c.want)
			if data, err := os.ReadFile(name); err != nil || string(data) != "content" {
				t.Errorf("%s holds %q: %v", c.want, data, err)
			}
		})
	}
}

func TestErrorsNameTheFileAndTheNextStep(t *testing.T) {
	for _, c := range []struct {
		name  string
		words []string
		want  string
	}{
		{"a source that is missing", []string{"R:none", "L:a"}, "none\" does not exist"},
		{"a local source that is missing", []string{"L:none", "R:a"}, "none\" does not exist"},
		{"a directory without -r", []string{"R:dir", "L:new"}, "add -r"},
		{"a parent that is missing", []string{"L:a", "R:none/b"}, "none\" does not exist"},
		{"a directory that is missing", []string{"R:a", "L:none/"}, "none/\" does not exist"},
		{"several files to a file", []string{"L:a", "L:dir", "R:a"}, "is not a directory"},
		{"standard input to a directory", []string{"-", "R:dir"}, "is a directory"},
		{"a pipe", []string{"R:a", "L:socket"}, "not replaced"},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			for _, side := range []string{test.local, test.remote} {
				put(t, side+"/a", "content", 0o644)
				put(t, side+"/dir/keep", "", 0o644)
			}
			if err := os.Symlink(os.DevNull, test.local+"/socket"); err != nil {
				t.Fatal(err)
			}
			err := test.run(t, served, c.words...)
			if text := textOf(err) + test.problem.String(); err == nil || !strings.Contains(text, c.want) {
				t.Errorf("error %q, want one with %q", text, c.want)
			}
		})
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestStandardStreamsAreCopied(t *testing.T) {
	test := newCopyTest(t)
	content := strings.Repeat("0123456789", 200_000)
	test.in.WriteString(content)
	put(t, test.remote+"/file", "old", 0o640)
	if err := test.run(t, served, "-", "R:file"); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, test.remote); got["file"] != "-rw-r----- "+content || len(got) != 1 {
		t.Errorf("standard input did not become the file, or left something beside it")
	}
	if err := test.run(t, served, "R:file", "-"); err != nil {
		t.Fatal(err)
	}
	if test.out.String() != content {
		t.Errorf("standard output got %d bytes, want %d", test.out.Len(), len(content))
	}
	if test.problem.Len() > 0 {
		t.Errorf("there is no terminal, but it printed %q", &test.problem)
	}
}

// brokenAfter breaks the connection when limit bytes have passed.
func brokenAfter(limit int64) sftpclient.Subsystem {
	return func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		// Both directions break, or each side could wait for the other.
		limited := &budget{left: limit, spent: func() { _ = stdin.(io.Closer).Close() }, breaks: true}
		err := served(ctx, budgetReader{limited, stdin}, budgetWriter{limited, stdout})
		if limited.remains() {
			return err
		}
		return &client.Error{Outcome: "Unknown", Reason: "Unreachable", Message: "the connection broke"}
	}
}

func TestABrokenTransferLeavesNoHalfOfANewFile(t *testing.T) {
	for _, c := range []struct{ name, from, to string }{{"to a target", "L:", "R:"}, {"from a target", "R:", "L:"}} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			for _, side := range []string{test.local, test.remote} {
				put(t, side+"/new", strings.Repeat("new", 1_000_000), 0o644)
			}
			err := test.run(t, brokenAfter(1_000_000), c.from+"new", c.to+"file")
			if !errors.Is(err, client.ErrUnknown) {
				t.Errorf("error %v, want the one that broke it", err)
			}
			for _, side := range []string{test.local, test.remote} {
				if _, there := listing(t, side)["file"]; there {
					t.Error("half of the file has its name")
				}
			}
			if c.to == "L:" && len(listing(t, test.local)) != 1 {
				t.Errorf("something was left behind: %v", len(listing(t, test.local)))
			}
		})
	}
}

func TestABrokenTransferNamesTheFileThatIsIncomplete(t *testing.T) {
	for _, c := range []struct{ name, from, to string }{{"to a target", "L:", "R:"}, {"from a target", "R:", "L:"}} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			for _, side := range []string{test.local, test.remote} {
				put(t, side+"/new", strings.Repeat("new", 1_000_000), 0o644)
				put(t, side+"/file", "old", 0o600)
			}
			err := test.run(t, brokenAfter(1_000_000), c.from+"new", c.to+"file")
			if !errors.Is(err, client.ErrUnknown) || !strings.Contains(test.problem.String(), "note: incomplete: ") {
				t.Errorf("error %v, printed %q; want the file named", err, &test.problem)
			}
		})
	}
}

func TestAStreamThatFailsBeforeItsFirstByteLeavesTheFileAsItWas(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.remote+"/file", "old", 0o644)
	err := test.runWith(t, iotest.ErrReader(errors.New("broken input")), served, "-", "R:file")
	if err == nil || !strings.Contains(err.Error(), "broken input") || strings.Contains(test.problem.String(), "incomplete") {
		t.Errorf("error %v, printed %q; want the input's error, and no file named", err, &test.problem)
	}
	if diff := cmp.Diff(map[string]string{"file": "-rw-r--r-- old"}, listing(t, test.remote)); diff != "" {
		t.Errorf("what is there (-want +got):\n%s", diff)
	}
	if err := test.runWith(t, strings.NewReader(""), served, "-", "R:file"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"file": "-rw-r--r-- "}, listing(t, test.remote)); diff != "" {
		t.Errorf("after an empty input (-want +got):\n%s", diff)
	}
}

func TestACanceledTransferCleansUpBehindIt(t *testing.T) {
	test := newCopyTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	put(t, test.local+"/big", strings.Repeat("big", 1_000_000), 0o644)
	o := &options{
		Factory:     &plugin.Factory{IOStreams: genericiooptions.IOStreams{ErrOut: &test.problem}},
		sources:     []location.Location{{Path: test.local + "/big"}},
		destination: location.Location{Pool: "web", Path: test.remote + "/big"},
	}
	err := o.over(ctx, func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		return served(ctx, budgetReader{&budget{left: 500_000, spent: cancel}, stdin}, stdout)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was canceled", err)
	}
	if left := listing(t, test.remote); len(left) > 0 {
		t.Errorf("%d files were left on the target", len(left))
	}
}

func TestTargetsWithoutSFTPAreExplained(t *testing.T) {
	for _, c := range []struct {
		name      string
		subsystem sftpclient.Subsystem
	}{
		{"the server refuses the subsystem", func(context.Context, io.Reader, io.Writer) error {
			return &client.Error{Outcome: "NotStarted", Reason: "ProtocolError", Message: "the server refuses to start this"}
		}},
		{"the program is missing", func(context.Context, io.Reader, io.Writer) error {
			return &client.ExitError{Code: 127}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			put(t, test.local+"/a", "", 0o644)
			err := test.run(t, c.subsystem, "L:a", "R:a")
			if hint := exit.HintOf(err); !strings.Contains(hint, "Subsystem sftp") {
				t.Errorf("error %v without the next step", err)
			}
		})
	}
}

func TestALoginThatSpoilsSFTPIsQuoted(t *testing.T) {
	for _, c := range []struct {
		name           string
		stdout, stderr string
		code           int
		says           []string
	}{
		{"a greeting", "Welcome to web-1,\x1b[2J have a nice day!\n", "", 0, []string{"prints text before it", `"Welcome to web-1,[2J have a nice day!"`, ".bashrc"}},
		{"a short greeting", "Hi\n", "", 0, []string{"prints text before it", `"Hi"`}},
		{"nologin", "This account is currently not available.\n", "", 1, []string{"exit code 1", "account is currently not available", "login shell may be nologin"}},
		{"an expired password", "", "WARNING: Your password has expired.\n", 1, []string{"Your password has expired", "expired password"}},
		{"a shell that is false", "", "", 1, []string{"exit status 1", "nologin or false", "Subsystem sftp internal-sftp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := clitest.New(t, New)
			f.Answers[clitest.LivePools+"/web/exec"] = func(out http.ResponseWriter, r *http.Request) {
				stream.ServeExec(out, r, stream.ExecOptions{Stdin: true, Stdout: true, Stderr: true},
					func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
						_, _ = io.WriteString(streams.Stdout, c.stdout)
						_, _ = io.WriteString(streams.Stderr, c.stderr)
						if c.code == 0 {
							_ = served(ctx, streams.Stdin, streams.Stdout)
						}
						return clitest.Exits(c.code, "")
					})
			}
			name := t.TempDir() + "/a"
			put(t, name, "", 0o644)
			got := f.Run("cp", name, "web/web-1:b")
			clitest.WantStderr(t, got, exit.Failed, c.says...)
			if strings.Contains(got.Stderr, "may have run") {
				t.Errorf("a wrong track: %s", got.Stderr)
			}
		})
	}
}

func TestATargetThatIsNoHostNeedsAContainerOrPod(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.local+"/a", "", 0o644)
	refusal := apierrors.NewBadRequest("subsystem: Forbidden: target ci is of type docker, and only ssh targets have subsystems")
	err := test.run(t, func(context.Context, io.Reader, io.Writer) error { return refusal }, "L:a", "R:a")
	if hint := exit.HintOf(err); !strings.Contains(hint, "--container NAME") || strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("error %v without the next step", err)
	}
}

func TestAPoolOfSeveralTargetsNeedsTheNameOfOne(t *testing.T) {
	f := clitest.Shop(t, New)
	name := t.TempDir() + "/a"
	put(t, name, "", 0o644)
	for _, words := range [][]string{{name, "web:b"}, {"web:b", name}, {"-r", name, "web:b", "-c", "app"}, {"web:b", "-", "--pod", "app-0"}} {
		got := f.Run(append([]string{"cp"}, words...)...)
		clitest.WantStderr(t, got, exit.Failed, "web has 2 targets: name one, web/web-1, web/web-2")
	}
	for i := range 7 {
		f.Targets = append(f.Targets, clitest.Target(fmt.Sprintf("web-%d", i+3), "web"))
	}
	clitest.WantStderr(t, f.Run("cp", name, "web:b"), exit.Failed, "web/web-5, or one of 4 more")
	for _, asked := range f.Requests() {
		if strings.Contains(asked, "/exec") {
			t.Errorf("asked %q", asked)
		}
	}
}

func TestFilesOfAContainerAreCopiedThroughAPool(t *testing.T) {
	f := clitest.Shop(t, New)
	directory := t.TempDir()
	f.Remote = func(
		ctx context.Context, options livev1alpha1.ExecOptions, streams driver.Streams, _ <-chan driver.WindowSize,
	) *metav1.Status {
		if options.Target != "db-1" || options.Container != "app" || options.Pod != "web-0" || options.Namespace != "shop" {
			t.Errorf("asked for %+v", options)
		}
		err := programs("/usr/bin")(ctx, options.Command, streams.Stdin, streams.Stdout, streams.Stderr)
		if ended, ok := errors.AsType[*client.ExitError](err); ok {
			return clitest.Exits(ended.Code, "")
		}
		return clitest.Exits(0, "")
	}
	put(t, directory+"/tree/a", strings.Repeat("through the wire ", 300_000), 0o640)
	place := []string{"-c", "app", "--pod", "web-0", "--pod-namespace", "shop"}
	for _, words := range [][]string{
		{"-r", directory + "/tree", "db:" + directory + "/there"},
		{"-r", "db:" + directory + "/there", directory + "/back"},
		{"db:" + directory + "/there/a", directory + "/one"},
		{directory + "/one", "db/db-1:" + directory + "/two"},
	} {
		clitest.WantStderr(t, f.Run(append(append([]string{"cp"}, words...), place...)...), 0)
	}
	got := listing(t, directory)
	for _, name := range []string{"there/a", "back/a", "one", "two"} {
		if got[name] != got["tree/a"] {
			t.Errorf("%s has %d bytes", name, len(got[name]))
		}
	}
	clitest.WantStderr(t, f.Run(append([]string{"cp", "db:" + directory + "/none/x", "."}, place...)...), exit.Failed,
		`error: "`+directory+`/none/x" does not exist`)
}

func TestARefusedCopySaysNothingOfACommand(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Answers[clitest.LivePools+"/db/exec"] = func(out http.ResponseWriter, _ *http.Request) {
		refusal := *clitest.Fails(livev1alpha1.OutcomeNotStarted, "NotFound", "There is no pod web-0.")
		refusal.Code = http.StatusBadRequest
		f.Refuse(out, refusal)
	}
	for _, words := range [][]string{{"db:x", "."}, {"db:x", ".", "--pod", "web-0"}} {
		got := f.Run(append([]string{"cp"}, words...)...)
		clitest.WantStderr(t, got, exit.Failed, "There is no pod web-0. (request req-7)")
		if strings.Contains(got.Stderr, "command") {
			t.Errorf("said %q", got.Stderr)
		}
	}
}

func TestFilesAreCopiedThroughAPool(t *testing.T) {
	f := clitest.New(t, New)
	f.Answers[clitest.LivePools+"/web/exec"] = func(out http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost { // asks what kind of targets the pool has
			f.NoPool("web")(out, r)
			return
		}
		query := r.URL.Query()
		if (query.Get("subsystem") != "sftp" || query.Get("spread") != "true") && query["command"] == nil || query.Get("target") != "web-1" {
			t.Errorf("asked for %v", query)
		}
		stream.ServeExec(out, r, stream.ExecOptions{Stdin: true, Stdout: true},
			func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				if command := query["command"]; command != nil {
					if err := digestsHere(ctx, command, streams.Stdin, streams.Stdout, io.Discard); err != nil {
						t.Errorf("take digests: %v", err)
					}
					return clitest.Exits(0, "")
				}
				if err := served(ctx, streams.Stdin, streams.Stdout); err != nil {
					t.Errorf("serve sftp: %v", err)
				}
				return clitest.Exits(0, "")
			})
	}
	directory := t.TempDir()
	content := strings.Repeat("through the wire ", 300_000)
	put(t, directory+"/a", content, 0o644)
	got := f.Run("cp", directory+"/a", "web/web-1:"+directory+"/b")
	clitest.WantStderr(t, got, 0, "copied 1 file, 4.9 MiB in ", "verified by SHA-256")
	if data, _ := os.ReadFile(directory + "/b"); got.Code != 0 || string(data) != content {
		t.Errorf("exit code %d, %d bytes arrived: %s", got.Code, len(data), got.Stderr)
	}
}
