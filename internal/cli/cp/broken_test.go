package cp

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cp/digest"
	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// inTurn serves each start by the next subsystem, and all further ones by the last.
func inTurn(starts *atomic.Int64, all ...sftpclient.Subsystem) sftpclient.Subsystem {
	return func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		return all[min(starts.Add(1), int64(len(all)))-1](ctx, stdin, stdout)
	}
}

// once serves one start. The host is gone afterwards.
func once(subsystem sftpclient.Subsystem) sftpclient.Subsystem {
	gone := func(context.Context, io.Reader, io.Writer) error {
		return &client.Error{Outcome: "NotStarted", Reason: "Unreachable", Message: "the host is gone"}
	}
	return inTurn(&atomic.Int64{}, subsystem, gone)
}

func TestAStreamThatBreaksDoesNotEndTheCopy(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		limit          int64
		words          []string
	}{
		{"a large file to a target", "L:", "R:", large - 5<<20, []string{"file"}},
		{"a large file from a target", "R:", "L:", large - 5<<20, []string{"file"}},
		{"a tree to a target", "L:", "R:", 100_000, []string{"-r", "tree"}},
		{"a tree from a target", "R:", "L:", 100_000, []string{"-r", "tree"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			test.digests = digest.New(digestsHere)
			source, destination := test.local, test.remote
			if c.from == "R:" {
				source, destination = destination, source
			}
			put(t, source+"/file", strings.Repeat("0123456789abcde\n", large/16), 0o640)
			for i := range 200 {
				put(t, fmt.Sprintf("%s/tree/%d", source, i), strings.Repeat("x", 1000+i), 0o644)
			}
			var starts atomic.Int64
			last := len(c.words) - 1
			words := slices.Concat(c.words[:last], []string{c.from + c.words[last], c.to + "copy"})
			if err := test.run(t, inTurn(&starts, brokenAfter(c.limit), served), words...); err != nil {
				t.Fatalf("%v, %s", err, &test.problem)
			}
			want := listing(t, source)[c.words[last]]
			got := listing(t, destination)
			if diff := cmp.Diff(want, got["copy"]); diff != "" {
				t.Errorf("what arrived is something else: %d bytes, want %d", len(got["copy"]), len(want))
			}
			if c.words[last] == "tree" {
				if diff := cmp.Diff(listing(t, source+"/tree"), listing(t, destination+"/copy")); diff != "" {
					t.Errorf("what arrived (-want +got):\n%s", diff)
				}
			}
			for name := range got {
				if strings.Contains(name, ".connpool-") {
					t.Errorf("%s was left behind", name)
				}
			}
			said := test.problem.String()
			if starts.Load() != 2 || !strings.Contains(said, "sent again, because the stream broke: ") ||
				!strings.Contains(said, "verified by SHA-256") || strings.Contains(said, "there already") {
				t.Errorf("after %d starts it printed %s", starts.Load(), said)
			}
		})
	}
}

func TestAFurtherStreamThatBreaksIsReplaced(t *testing.T) {
	test := newCopyTest(t)
	content := strings.Repeat("0123456789abcde\n", large/16)
	put(t, test.local+"/file", content, 0o640)
	var starts atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		all := away(50*time.Millisecond, inTurn(&starts, []sftpclient.Subsystem{served, brokenAfter(5 << 20), served}...))
		if err := test.run(t, all, "L:file", "R:copy"); err != nil {
			t.Fatalf("%v, %s", err, &test.problem)
		}
	})
	if got := listing(t, test.remote)["copy"]; !strings.HasSuffix(got, " "+content) || starts.Load() != 5 {
		t.Errorf("%d bytes arrived over %d streams, want %d over 5", len(got), starts.Load(), large)
	}
}

func TestACopyWhoseStreamsAllBreakEnds(t *testing.T) {
	test := newCopyTest(t)
	put(t, test.local+"/file", strings.Repeat("0123456789abcde\n", large/16), 0o640)
	var starts atomic.Int64
	err := test.run(t, counted(&starts, brokenAfter(10<<20)), "L:file", "R:copy")
	if err == nil || !strings.Contains(exit.HintOf(err), "cp --resume") || !strings.Contains(err.Error(), "the connection broke") {
		t.Errorf("error %v, hint %q", err, exit.HintOf(err))
	}
	if starts.Load() != 4 {
		t.Errorf("%d streams were opened, want 4", starts.Load())
	}
}

func TestTheCommandThatGoesOnIsTheSameCopy(t *testing.T) {
	o := &options{Factory: &plugin.Factory{Name: "kubectl connpool"}}
	command := New(o.Factory)
	if err := command.ParseFlags([]string{"--target", "a", "--target", "b", "-p", "--parallel=3"}); err != nil {
		t.Fatal(err)
	}
	const want = `kubectl connpool cp --resume --parallel=3 --preserve=true --target=a --target=b 'it'\''s' web:x`
	if got := o.resumeCommand(command, []string{"it's", "web:x"}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
