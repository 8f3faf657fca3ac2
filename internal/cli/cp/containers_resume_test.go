package cp

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cp/container"
	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/exit"
)

// brokenIn breaks each command of a container that carries more than so many bytes.
func brokenIn(limit int64, run container.Run) container.Run {
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		limited := &budget{left: limit, spent: cancel, breaks: true}
		if stdin != nil {
			stdin = budgetReader{limited, stdin}
		}
		err := run(ctx, argv, stdin, budgetWriter{limited, stdout}, stderr)
		if limited.remains() {
			return err
		}
		return &client.Error{Outcome: "Unknown", Reason: "Unreachable", Message: "the connection broke"}
	}
}

// passing counts what commands carry.
func passing(bytes *atomic.Int64, run container.Run) container.Run {
	return func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		count := &budget{left: 1 << 40}
		if stdin != nil {
			stdin = budgetReader{count, stdin}
		}
		err := run(ctx, argv, stdin, budgetWriter{count, stdout}, stderr)
		bytes.Add(1<<40 - count.left)
		return err
	}
}

const (
	inContainer  = 12 << 20
	arrivedThere = 9 << 20
)

func TestABrokenCopyToOrFromAContainerGoesOnFromWhereItEnded(t *testing.T) {
	content := strings.Repeat("0123456789abcde\n", inContainer/16)
	for tools, run := range toolsets(t) {
		for _, c := range ways {
			for there, old := range map[string]string{"new": "", "that exists": "old"} {
				t.Run(tools+" "+c.name+" "+there, func(t *testing.T) {
					test := newCopyTest(t)
					test.digests = digest.New(digest.Run(run))
					source, destination := test.sides(c.from)
					put(t, source+"/file", content, 0o640)
					if old != "" {
						put(t, destination+"/copy", old, 0o640)
					}
					err := test.runIn(t, brokenIn(arrivedThere, run), c.from+"file", c.to+"copy")
					if err == nil || !strings.Contains(exit.HintOf(err), "cp --resume") {
						t.Fatalf("error %v without the command that goes on; %s", err, &test.problem)
					}
					test.digests = digest.New(digest.Run(run))
					var passed atomic.Int64
					if err := test.runIn(t, passing(&passed, run), "--resume", c.from+"file", c.to+"copy"); err != nil {
						t.Fatalf("to go on: %v, %s", err, &test.problem)
					}
					all := listing(t, destination)
					if got := all["copy"]; got != "-rw-r----- "+content || len(all) != 1 {
						t.Errorf("%d bytes arrived in %d files, want %d in one: %.20q", len(got), len(all), inContainer, got)
					}
					if !strings.Contains(test.problem.String(), "were there already, verified by SHA-256") || passed.Load() > inContainer/2 {
						t.Errorf("%d bytes passed, and it printed %s", passed.Load(), &test.problem)
					}
				})
			}
		}
	}
}

func TestWhatCannotBeContinuedInAContainerBeginsAnewAndSaysSo(t *testing.T) {
	content := strings.Repeat("0123456789abcde\n", inContainer/16)
	for name, c := range map[string]struct {
		without, source string
		words           []string
		want            string
	}{
		"without stat":                 {"stat", content, []string{"L:file", "R:copy"}, "has no stat that says how long the part is"},
		"without a program for SHA":    {"sha256sum", content, []string{"L:file", "R:copy"}, "no openssl, sha256sum or shasum to verify the part"},
		"when the part is another one": {"wget", strings.ToUpper(content), []string{"L:file", "R:copy"}, "the part that was there is something else"},
		"a directory":                  {"wget", content, []string{"-r", "L:.", "R:copies"}, "begins anew: --resume goes on with files"},
	} {
		t.Run(name, func(t *testing.T) {
			run := programs(busybox(t, c.without))
			test := newCopyTest(t)
			test.digests = digest.New(digest.Run(run))
			put(t, test.local+"/file", c.source, 0o640)
			put(t, test.remote+"/copy", content[:arrivedThere], 0o640)
			if err := test.runIn(t, run, append([]string{"--resume"}, c.words...)...); err != nil || !strings.Contains(test.problem.String(), c.want) {
				t.Errorf("error %v, printed %s", err, &test.problem)
			}
			name := strings.NewReplacer("R:copies", "copies/file", "R:", "").Replace(c.words[len(c.words)-1])
			if got := listing(t, test.remote)[name]; !strings.HasSuffix(got, " "+c.source) {
				t.Errorf("%d bytes arrived", len(got))
			}
		})
	}
}
