//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// otherPlaces are a container of an engine and a pod of a cluster.
var otherPlaces = map[string][]string{"engine-unix": {"--container=web"}, "cluster": {"--pod=web"}}

func TestFilesAreCopiedToAndFromContainersAndPods(t *testing.T) {
	for pool, place := range otherPlaces {
		t.Run(pool, func(t *testing.T) {
			dir := t.TempDir()
			content := strings.Repeat("0123456789abcdef", 1<<16)
			if err := os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o750); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"tree/file", "tree/sub/program"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cp := func(words ...string) { connpool(t, append(append([]string{"cp"}, words...), place...)...) }
			there := pool + ":/tmp/" + filepath.Base(dir)
			cp(filepath.Join(dir, "tree", "file"), there)
			cp(there, filepath.Join(dir, "back"))
			cp("-r", filepath.Join(dir, "tree"), there+"-tree")
			cp("-r", there+"-tree", filepath.Join(dir, "again"))
			for _, name := range []string{"back", "again/file", "again/sub/program"} {
				got, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil || string(got) != content {
					t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(content), err)
				}
				if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm() != 0o700 {
					t.Errorf("%s came back as %s", name, info.Mode())
				}
			}
			words := append([]string{"exec", pool}, append(place, "--", "sh", "-c", "ls -A /tmp | grep -F .connpool || true")...)
			if left := connpool(t, words...); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func TestAPodThatIsAbsentIsSaidBeforeItsPortIsForwarded(t *testing.T) {
	got := tryConnpool(t, "", "port-forward", "cluster", "--pod=absent", ":80")
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "no pod absent") || strings.Contains(got.stderr, "command") {
		t.Errorf("%+v", got)
	}
}
