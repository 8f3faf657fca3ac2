package digest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/client"
)

// local runs programs here, in directories of programs.
func local(path string) Run {
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		command := exec.CommandContext(ctx, "/bin/sh", argv[1:]...)
		command.Env = []string{"PATH=" + path}
		command.Stdin, command.Stdout, command.Stderr = stdin, stdout, stderr
		return command.Run()
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBothSidesTakeTheSameDigests(t *testing.T) {
	dir := t.TempDir()
	var names, want []string
	for i, name := range []string{"plain", "with space", "-dash", "back\\slash", "line\nbreak", "ünï", "empty"} {
		text := strings.Repeat(name, i)
		full := write(t, filepath.Join(dir, name), text)
		sum, err := Of(strings.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		names, want = append(names, full), append(want, sum)
	}
	for _, program := range []string{"sha256sum", "shasum", "openssl"} {
		t.Run(program, func(t *testing.T) {
			path, err := exec.LookPath(program)
			if err != nil {
				t.Fatal(err)
			}
			tools := t.TempDir()
			for _, tool := range []string{path, "/usr/bin/xargs", "/usr/bin/head", "/bin/sh", "/usr/bin/perl"} {
				if err := os.Symlink(tool, filepath.Join(tools, filepath.Base(tool))); err != nil {
					t.Fatal(err)
				}
			}
			tool := New(local(tools))
			checked, expected := names, want
			if program != "sha256sum" { // the others print a name of two lines as it is
				checked, expected = slices.Delete(slices.Clone(names), 4, 5), slices.Delete(slices.Clone(want), 4, 5)
			}
			got, err := tool.Files(t.Context(), checked)
			if diff := cmp.Diff(expected, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			prefix, err := tool.Prefix(t.Context(), names[1], 4)
			if here, _ := Of(strings.NewReader("with"), 4); err != nil || prefix != here {
				t.Errorf("the first bytes: %q, error %v, want %q", prefix, err, here)
			}
		})
	}
}

func TestALargeFileIsReadByTheFastestProgram(t *testing.T) {
	used := filepath.Join(t.TempDir(), "used")
	answer := strings.Repeat("0", 64) + " *name"
	openssl := "#!/bin/sh\necho openssl >>" + used + "\necho '" + answer + "'\n"
	for name, c := range map[string]struct {
		openssl string
		names   []string
		want    string
	}{
		"one file":               {openssl, []string{"a"}, "openssl\nopenssl\n"}, // it is tried first
		"several files":          {openssl, []string{"a", "b"}, "sha256sum\n"},
		"an openssl that is old": {"#!/bin/sh\nexit 1\n", []string{"a"}, "sha256sum\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(used)
			tools := t.TempDir()
			sha256sum := "#!/bin/sh\necho sha256sum >>" + used + "\nfor name; do echo '" + answer + "'; done\n"
			for program, text := range map[string]string{"openssl": c.openssl, "sha256sum": sha256sum} {
				if err := os.WriteFile(filepath.Join(tools, program), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("/usr/bin/xargs", filepath.Join(tools, "xargs")); err != nil {
				t.Fatal(err)
			}
			_, err := New(local(tools)).Files(t.Context(), c.names)
			got, _ := os.ReadFile(used)
			if err != nil || string(got) != c.want {
				t.Errorf("error %v, ran %q, want %q", err, got, c.want)
			}
		})
	}
}

func TestADigestWhoseConnectionBreaksIsTakenAgain(t *testing.T) {
	starts := 0
	tool := New(func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		if starts++; starts == 1 {
			_, _ = fmt.Fprint(stdout, "half of a di")
			return &client.Error{Outcome: "Unknown", Reason: "Unreachable", Message: "the connection broke"}
		}
		return local(os.Getenv("PATH"))(ctx, argv, stdin, stdout, stderr)
	})
	name := write(t, filepath.Join(t.TempDir(), "file"), "content")
	want, _ := Of(strings.NewReader("content"), 7)
	if got, err := tool.Files(t.Context(), []string{name}); err != nil || got[0] != want {
		t.Errorf("%v, error %v, want %s", got, err, want)
	}
}

func TestAMachineThatTakesNoDigestsIsNotBelieved(t *testing.T) {
	for name, run := range map[string]Run{
		"it has no program": local(t.TempDir()),
		"it runs none":      func(context.Context, []string, io.Reader, io.Writer, io.Writer) error { return os.ErrPermission },
		"it prints something else": func(_ context.Context, _ []string, _ io.Reader, out, _ io.Writer) error {
			_, _ = fmt.Fprint(out, "welcome\n")
			return nil
		},
		"it prints without end": func(_ context.Context, _ []string, _ io.Reader, out, _ io.Writer) error {
			for range 1000 {
				_, _ = fmt.Fprint(out, strings.Repeat("0", 64)+"\n")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			if sums, err := New(run).Files(t.Context(), []string{"a", "b"}); !errors.Is(err, ErrNone) {
				t.Errorf("digests %v, error %v", sums, err)
			}
		})
	}
}
