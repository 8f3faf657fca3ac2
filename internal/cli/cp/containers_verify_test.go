package cp

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/connpool/connpool/internal/cli/cp/container"
	"github.com/connpool/connpool/internal/cli/cp/digest"
)

// damaging changes a byte of what passes to or from a container.
func damaging(run container.Run) container.Run {
	damage := func(p []byte) []byte { return bytes.Replace(p, []byte("content"), []byte("contenT"), 1) }
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		if stdin != nil {
			all, _ := io.ReadAll(stdin)
			stdin = bytes.NewReader(damage(all))
		}
		var out bytes.Buffer
		err := run(ctx, argv, stdin, &out, stderr)
		_, _ = stdout.Write(damage(out.Bytes()))
		return err
	}
}

func TestWhatPassesToOrFromAContainerIsVerified(t *testing.T) {
	for tools, run := range toolsets(t) {
		for _, c := range ways {
			for what, words := range map[string][]string{"a small file": {"small"}, "a large file": {"large"}, "a tree": {"-r", "."}} {
				t.Run(tools+" "+what+" "+c.name, func(t *testing.T) {
					start := func() *copyTest {
						test := newCopyTest(t)
						test.digests = digest.New(digest.Run(run))
						source, destination := test.sides(c.from)
						put(t, source+"/small", "content", 0o644)
						put(t, source+"/large", strings.Repeat("content ", 100_000), 0o644)
						put(t, destination+"/dir/keep", "", 0o644)
						return test
					}
					last := len(words) - 1
					line := append([]string{}, words[:last]...)
					line = append(line, c.from+words[last], c.to+"dir")
					test := start()
					if err := test.runIn(t, run, line...); err != nil || !strings.Contains(test.problem.String(), ", verified by SHA-256") {
						t.Errorf("whole: error %v, printed %s", err, &test.problem)
					}
					test = start()
					err := test.runIn(t, damaging(run), line...)
					if said := textOf(err) + test.problem.String(); err == nil || !strings.Contains(said, "SHA-256 of the two sides differ") {
						t.Errorf("damaged: error %v, printed %s", err, &test.problem)
					}
				})
			}
		}
	}
}

func TestAContainerWithoutProgramsForDigestsIsVerifiedBySize(t *testing.T) {
	run := programs(busybox(t, "sha256sum"))
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			test.digests = digest.New(digest.Run(run))
			source, _ := test.sides(c.from)
			put(t, source+"/file", strings.Repeat("content ", 100_000), 0o644)
			if err := test.runIn(t, run, c.from+"file", c.to+"copy"); err != nil || !strings.Contains(test.problem.String(), ", verified by size") {
				t.Errorf("error %v, printed %s", err, &test.problem)
			}
		})
	}
}
