package cp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/stream"
)

// farm is a pool web of four targets, each with a directory of its own below dir. Those whose
// names are in broken run nothing.
func farm(t *testing.T, dir string, broken ...string) *clitest.Fixture {
	t.Helper()
	f := clitest.Shop(t, New)
	for _, name := range []string{"web-10", "web-3"} {
		f.Targets = append(f.Targets, clitest.Target(name, "web"))
	}
	serve := func(ctx context.Context, target, subsystem string, argv []string, streams driver.Streams) *metav1.Status {
		if slices.Contains(broken, target) {
			return clitest.Exits(1, "")
		}
		home := dir + "/" + target
		if subsystem == "" {
			command := exec.CommandContext(ctx, argv[0], argv[1:]...)
			command.Dir, command.Stdin, command.Stdout = home, streams.Stdin, streams.Stdout
			if err := command.Run(); err != nil {
				t.Errorf("take digests on %s: %v", target, err)
			}
			return clitest.Exits(0, "")
		}
		server, err := sftp.NewServer(pipe{streams.Stdin, streams.Stdout}, sftp.WithServerWorkingDirectory(home))
		if err != nil {
			t.Error(err)
			return clitest.Exits(1, "")
		}
		if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("serve sftp on %s: %v", target, err)
		}
		return clitest.Exits(0, "")
	}
	f.Answers[clitest.LivePools+"/web/exec"] = func(out http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			f.NoPool("web")(out, r)
			return
		}
		query := r.URL.Query()
		stream.ServeExec(out, r, stream.ExecOptions{Stdin: true, Stdout: true, Stderr: query.Get("stderr") != ""},
			func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				return serve(ctx, query.Get("target"), query.Get("subsystem"), query["command"], streams)
			})
	}
	put(t, dir+"/file", "content", 0o644)
	for _, target := range []string{"web-1", "web-2", "web-3", "web-10"} {
		put(t, dir+"/"+target+"/there", "", 0o644)
	}
	return f
}

func TestAFileGoesToAllTargets(t *testing.T) {
	dir := t.TempDir()
	f := farm(t, dir)
	got := f.Run("cp", dir+"/file", "web:copy", "--all")
	clitest.WantStderr(t, got, 0,
		"web-1: copied 1 file, 7 B in ", "web-2: copied", "web-3: copied", "web-10: copied", "verified by SHA-256", "copied to 4 targets")
	for _, target := range []string{"web-1", "web-2", "web-3", "web-10"} {
		if content, err := os.ReadFile(dir + "/" + target + "/copy"); err != nil || string(content) != "content" {
			t.Errorf("%q arrived on %s, error %v", content, target, err)
		}
	}
	got = f.Run("cp", "-q", dir+"/file", "web:copy", "--target", "web-2", "--target", "web-2", "--target", "web-1")
	clitest.Want(t, got, 0, "")
	if got.Stderr != "" {
		t.Errorf("although it is to be quiet, it printed %q", got.Stderr)
	}
	clitest.WantStderr(t, f.Run("cp", dir+"/file", "web:copy", "-l", "app=web"), 0, "copied to 4 targets")
	clitest.WantStderr(t, f.Run("cp", dir+"/file", "web:copy", "-l", "app=none"), exit.Failed, "no target of pool web has the labels app=none")
}

func TestTheTargetsWhereACopyFailsAreListed(t *testing.T) {
	dir := t.TempDir()
	f := farm(t, dir, "web-10", "web-3")
	got := f.Run("cp", dir+"/file", "web:copy", "--all", "--parallel", "1")
	clitest.WantStderr(t, got, exit.Failed, "TARGET", "WHY", "web-1: copied", "sftp is not available on this target", "the copy failed on 2 of 4 targets")
	_, table, _ := strings.Cut(got.Stderr, "TARGET")
	if strings.Index(table, "web-3 ") > strings.Index(table, "web-10 ") || strings.Contains(table, "web-1 ") {
		t.Errorf("the table is not of those that failed, as people count:\n%s", table)
	}
}

func TestCopiesToSeveralTargetsThatMakeNoSenseAreRefused(t *testing.T) {
	dir := t.TempDir()
	f := farm(t, dir)
	for line, want := range map[string]string{
		"cp web:a FILE --all":                "files come from one target at a time",
		"cp FILE web/web-1:a --all":          "names a target already",
		"cp - web:a --all":                   "standard input can be read once only",
		"cp FILE web:a --all --target web-1": "exclude each other",
		"cp FILE web:a -l =":                 "--selector: ",
		"cp FILE web:a --parallel -1 --all":  "--parallel -1 is not possible",
		"cp FILE web/web-1:a --parallel 100": "choose 1 to 16 streams",
	} {
		got := f.Run(strings.Fields(strings.ReplaceAll(line, "FILE", dir+"/file"))...)
		clitest.WantStderr(t, got, exit.Failed, want)
	}
}
