package cp

import (
	"archive/tar"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/cli/cp/container"
)

// entryOf is an entry of a hostile stream.
type entryOf struct {
	header  tar.Header
	content string
}

// sends returns a container whose tar sends these entries.
func sends(t *testing.T, run container.Run, entries ...entryOf) container.Run {
	t.Helper()
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		if !strings.Contains(argv[2], "tar cf") {
			return run(ctx, argv, stdin, stdout, stderr)
		}
		out := tar.NewWriter(stdout)
		for _, e := range entries {
			e.header.Size = int64(len(e.content))
			if e.header.Mode == 0 {
				e.header.Mode = 0o755
			}
			// The client reads no more once it has seen enough.
			_ = out.WriteHeader(&e.header)
			_, _ = io.WriteString(out, e.content)
		}
		_ = out.Close()
		return nil
	}
}

func TestAHostileContainerWritesNothingOutside(t *testing.T) {
	root := entryOf{header: tar.Header{Name: "./", Typeflag: tar.TypeDir}}
	file := func(name string) entryOf {
		return entryOf{header: tar.Header{Name: name, Typeflag: tar.TypeReg}, content: "evil"}
	}
	link := func(kind byte, name, to string) entryOf {
		return entryOf{header: tar.Header{Name: name, Linkname: to, Typeflag: kind}}
	}
	dir := func(name string) entryOf { return entryOf{header: tar.Header{Name: name, Typeflag: tar.TypeDir}} }
	for _, c := range []struct {
		name    string
		entries []entryOf
		want    []string // what arrives
		fails   bool
	}{
		{"a name that climbs", []entryOf{root, file("../evil")}, []string{"in"}, true},
		{"a name that climbs in its middle", []entryOf{root, dir("a"), file("a/../../evil")}, []string{"in", "in/a"}, true},
		{"an absolute name", []entryOf{root, file("/tmp/evil")}, []string{"in"}, true},
		{"a directory that climbs", []entryOf{root, dir("..")}, []string{"in"}, true},
		{"no directory first", []entryOf{file("evil")}, nil, true},
		{"a file in the place of the directory", []entryOf{file(".")}, nil, true},
		{"a file in a directory that was not sent", []entryOf{root, file("a/evil")}, []string{"in"}, true},
		{"a link out", []entryOf{root, link(tar.TypeSymlink, "out", "../..")}, []string{"in"}, true},
		{"a link out, and a file behind it", []entryOf{root, link(tar.TypeSymlink, "out", ".."), file("out/evil")}, []string{"in"}, true},
		{"a link inside, and a file behind it", []entryOf{root, dir("a"), link(tar.TypeSymlink, "b", "a"), file("b/evil")}, []string{"in", "in/a", "in/b"}, true},
		{"a link in the place of a directory", []entryOf{root, dir("a"), link(tar.TypeSymlink, "a", "."), file("a/f")}, []string{"in", "in/a", "in/a/f"}, true},
		{"a link, and a directory of its name", []entryOf{root, dir("b"), link(tar.TypeSymlink, "a", "b"), dir("a"), file("a/f")}, []string{"in", "in/a", "in/b"}, true},
		{"another name of a file outside", []entryOf{root, link(tar.TypeLink, "h", "../secret")}, []string{"in"}, true},
		{"another name of a file that was there", []entryOf{root, link(tar.TypeLink, "h", "mine")}, []string{"in"}, true},
		{"another name of a file that was sent", []entryOf{root, file("a"), link(tar.TypeLink, "h", "./a")}, []string{"in", "in/a", "in/h"}, false},
		{"another name of a link", []entryOf{root, link(tar.TypeSymlink, "l", "mine"), link(tar.TypeLink, "h", "l")}, []string{"in", "in/l"}, true},
		{"a device", []entryOf{root, {header: tar.Header{Name: "null", Typeflag: tar.TypeChar}}}, []string{"in"}, true},
		{"a setuid program", []entryOf{root, {header: tar.Header{Name: "su", Typeflag: tar.TypeReg, Mode: 0o4755}, content: "x"}}, []string{"in", "in/su"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			put(t, test.local+"/around/secret", "secret", 0o600)
			put(t, test.remote+"/tree/x", "", 0o644)
			err := test.runIn(t, sends(t, programs("/usr/bin"), c.entries...), "-r", "R:tree", "L:around/in")
			if (err != nil) != c.fails {
				t.Errorf("error %v, output %q", err, &test.problem)
			}
			got := listing(t, test.local+"/around")
			if got["secret"] != "-rw------- secret" {
				t.Errorf("what is beside it has changed: %v", got)
			}
			delete(got, "secret")
			if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(got))); diff != "" {
				t.Errorf("what arrived (-want +got):\n%s", diff)
			}
			if strings.HasPrefix(got["in/su"], "u") {
				t.Errorf("the program arrived as %s", got["in/su"])
			}
		})
	}
}
