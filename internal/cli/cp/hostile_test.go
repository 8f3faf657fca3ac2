package cp

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pkg/sftp"

	"github.com/connpool/connpool/internal/cli/cp/tree"
)

// budget counts down the bytes that may still pass.
type budget struct {
	mu   sync.Mutex
	left int64
	// spent is called once when nothing is left.
	spent func()
	// breaks says that nothing passes then.
	breaks bool
}

func (b *budget) take(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.left
	b.left -= int64(n)
	if b.left > 0 {
		return nil
	}
	if before > 0 {
		b.spent()
	}
	if b.breaks {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (b *budget) remains() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left > 0
}

type budgetReader struct {
	*budget
	io.Reader
}

func (b budgetReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if broken := b.take(n); broken != nil {
		return 0, broken
	}
	return n, err
}

type budgetWriter struct {
	*budget
	io.Writer
}

func (b budgetWriter) Write(p []byte) (int, error) {
	if err := b.take(len(p)); err != nil {
		return 0, err
	}
	return b.Writer.Write(p)
}

// hostile is a server that invents the entries of its directories.
type hostile map[string][]fakeInfo

func (h hostile) serve(_ context.Context, stdin io.Reader, stdout io.Writer) error {
	server := sftp.NewRequestServer(pipe{stdin, stdout}, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (h hostile) Fileread(*sftp.Request) (io.ReaderAt, error) { return strings.NewReader("evil"), nil }

func (h hostile) Filewrite(*sftp.Request) (io.WriterAt, error) { return nil, fs.ErrPermission }

func (h hostile) Filecmd(*sftp.Request) error { return fs.ErrPermission }

func (h hostile) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method == "List" {
		return lister(h[r.Filepath]), nil
	}
	for _, info := range h[path.Dir(r.Filepath)] {
		if info.name == path.Base(r.Filepath) {
			return lister{info}, nil
		}
	}
	return lister{{name: path.Base(r.Filepath), mode: fs.ModeDir | 0o755}}, nil
}

func (h hostile) Readlink(name string) (string, error) {
	for _, info := range h[path.Dir(name)] {
		if info.name == path.Base(name) {
			return info.link, nil
		}
	}
	return "", fs.ErrNotExist
}

type lister []fakeInfo

func (l lister) ListAt(into []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := 0
	for _, info := range l[offset:] {
		if n == len(into) {
			return n, nil
		}
		into[n] = info
		n++
	}
	return n, io.EOF
}

type fakeInfo struct {
	name, link string
	mode       fs.FileMode
	size       int64
}

func (f fakeInfo) Name() string       { return f.name }
func (f fakeInfo) Size() int64        { return f.size }
func (f fakeInfo) Mode() fs.FileMode  { return f.mode }
func (f fakeInfo) ModTime() time.Time { return time.Unix(0, 0) }
func (f fakeInfo) IsDir() bool        { return f.mode.IsDir() }
func (f fakeInfo) Sys() any           { return nil }

func TestAHostileServerWritesNothingOutside(t *testing.T) {
	file := fakeInfo{name: "file", mode: 0o644, size: 4}
	for _, c := range []struct {
		name   string
		server hostile
		want   []string // what arrives
		fails  bool
	}{
		{"a name that climbs", hostile{"/tree": {{name: "a/..", mode: 0o644, size: 4}}}, nil, true},
		{"a directory that climbs", hostile{"/tree": {{name: "x/..", mode: fs.ModeDir | 0o755}}}, nil, true},
		{"a name with a NUL", hostile{"/tree": {{name: "a\x00b", mode: 0o644}}}, nil, true},
		{"a link out, and a file behind it", hostile{
			"/tree":     {{name: "out", link: "..", mode: fs.ModeSymlink | 0o777}, {name: "out", mode: fs.ModeDir | 0o755}},
			"/tree/out": {file},
		}, []string{"in", "in/out", "in/out/file"}, true},
		{"a link that is a directory, too", hostile{
			"/tree":    {{name: "up", link: "sub", mode: fs.ModeSymlink | 0o777}, {name: "up", mode: fs.ModeDir | 0o755}},
			"/tree/up": {file},
		}, []string{"in", "in/up", "in/up/file"}, true},
		{"a file that promises more than it holds", hostile{"/tree": {{name: "file", mode: 0o644, size: 1 << 40}}}, []string{"in"}, true},
		{"a setuid program", hostile{"/tree": {{name: "su", mode: fs.ModeSetuid | 0o755, size: 4}}}, []string{"in", "in/su"}, false},
		{"a device", hostile{"/tree": {{name: "null", mode: fs.ModeDevice | 0o666}}}, []string{"in"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			if err := test.run(t, c.server.serve, "-r", "web:/tree", "L:in"); (err != nil) != c.fails {
				t.Errorf("error %v, output %q", err, &test.problem)
			}
			got := listing(t, test.local)
			names := slices.Sorted(maps.Keys(got))
			if diff := cmp.Diff(c.want, names); diff != "" {
				t.Errorf("what arrived (-want +got):\n%s", diff)
			}
			if strings.HasPrefix(got["in/su"], "u") {
				t.Errorf("the program arrived as %s", got["in/su"])
			}
		})
	}
}

func TestATreeWithoutEndIsRefused(t *testing.T) {
	test := newCopyTest(t)
	server := hostile{}
	name := "/tree"
	for range tree.MaxDepth + 2 {
		server[name] = []fakeInfo{{name: "d", mode: fs.ModeDir | 0o755}}
		name += "/d"
	}
	err := test.run(t, server.serve, "-r", "web:/tree", "L:in")
	if err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("error %v, want that it has no end", err)
	}
	if got := listing(t, test.local); len(got) > 0 {
		t.Errorf("%d entries were made", len(got))
	}
}

// A file is written where a link leads, unless that is outside of the destination: a
// user who downloads a tree over an old one may not know what its links lead to.
func TestALinkThatLeavesTheDestinationIsNotFollowed(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.remote+"/tree/out", "evil", 0o644)
	put(t, test.remote+"/tree/inside", "good", 0o644)
	put(t, test.local+"/secret", "old", 0o600)
	put(t, test.local+"/a/in/target", "old", 0o600)
	for name, target := range map[string]string{"out": "../../secret", "inside": "target"} {
		if err := os.Symlink(target, test.local+"/a/in/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := test.run(t, served, "-r", "R:tree/.", "L:a/in"); err == nil || !strings.Contains(test.problem.String(), "in/out") {
		t.Errorf("error %v, printed %q; want the link named", err, &test.problem)
	}
	want := map[string]string{
		"a": "drwxr-xr-x", "a/in": "drwxr-xr-x", "secret": "-rw------- old", "a/in/out": "-> ../../secret",
		"a/in/inside": "-> target", "a/in/target": "-rw------- good",
	}
	if diff := cmp.Diff(want, listing(t, test.local)); diff != "" {
		t.Errorf("what is there (-want +got):\n%s", diff)
	}
}

func TestALinkThatLeavesTheTreeButNotWhatIsAroundItIsNotFollowed(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.remote+"/tree/out", "evil", 0o644)
	put(t, test.remote+"/tree/new", "good", 0o644)
	put(t, test.local+"/secret", "old", 0o600)
	put(t, test.local+"/tree/old", "old", 0o644)
	if err := os.Symlink("../secret", test.local+"/tree/out"); err != nil {
		t.Fatal(err)
	}
	if err := test.run(t, served, "-r", "R:tree/.", "L:tree"); err == nil || !strings.Contains(test.problem.String(), "tree/out") {
		t.Errorf("error %v, printed %q; want the link named", err, &test.problem)
	}
	want := map[string]string{
		"secret": "-rw------- old", "tree": "drwxr-xr-x", "tree/old": "-rw-r--r-- old", "tree/new": "-rw-r--r-- good",
		"tree/out": "-> ../secret",
	}
	if diff := cmp.Diff(want, listing(t, test.local)); diff != "" {
		t.Errorf("what is there (-want +got):\n%s", diff)
	}
}

// A link to a directory is not one of the tree, so nothing is written through it.
func TestWhatIsInADirectoryThatCannotBeMadeStaysBehind(t *testing.T) {
	for _, c := range []struct{ name, from, to string }{{"to a target", "L:", "R:"}, {"from a target", "R:", "L:"}} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			sides := map[string]string{"L:": test.local, "R:": test.remote}
			there, here := sides[c.from], sides[c.to]
			put(t, there+"/tree/sub/deep/file", "evil", 0o644)
			put(t, there+"/tree/subway", "good", 0o644)
			put(t, here+"/into/other/file", "old", 0o600)
			if err := os.Symlink("other", here+"/into/sub"); err != nil {
				t.Fatal(err)
			}
			err := test.run(t, served, "-r", c.from+"tree/.", c.to+"into")
			if err == nil || strings.Count(test.problem.String(), "not copied: ") != 1 ||
				!strings.Contains(test.problem.String(), "in the way, so nothing in it was copied") {
				t.Errorf("error %v, printed %q; want one line about the directory", err, &test.problem)
			}
			want := map[string]string{
				"into": "drwxr-xr-x", "into/other": "drwxr-xr-x", "into/other/file": "-rw------- old", "into/sub": "-> other",
				"into/subway": "-rw-r--r-- good",
			}
			if diff := cmp.Diff(want, listing(t, here)); diff != "" {
				t.Errorf("what is there (-want +got):\n%s", diff)
			}
		})
	}
}
