package cp

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
)

// away lets a round trip to a server take so long.
func away(roundTrip time.Duration, subsystem sftpclient.Subsystem) sftpclient.Subsystem {
	return func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		in, toServer := io.Pipe()
		fromServer, out := io.Pipe()
		go late(roundTrip/2, toServer, stdin)
		done := make(chan struct{})
		go func() {
			defer close(done)
			late(roundTrip/2, nopCloser{stdout}, fromServer)
		}()
		err := subsystem(ctx, in, out)
		_ = out.Close()
		<-done
		return err
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// late passes each piece on some time after it came, while later ones come.
func late(delay time.Duration, to io.WriteCloser, from io.Reader) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 10_000)
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, 64<<10)
			n, err := from.Read(buffer)
			pieces <- piece{buffer[:n], time.Now().Add(delay)}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			for range pieces { // the sender must not wait
			}
		}
	}
	_ = to.Close()
}

func TestManySmallFilesCostFewRoundTrips(t *testing.T) {
	const files, roundTrip = 1000, 26 * time.Millisecond
	for _, c := range []struct {
		name, from, to string
		flags          []string
	}{
		{"to a target", "L:", "R:", []string{"-r"}},
		{"from a target", "R:", "L:", []string{"-r"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			for i := range files {
				side := map[string]string{"L:": test.local, "R:": test.remote}[c.from]
				put(t, fmt.Sprintf("%s/tree/%d/%d", side, i%20, i), strings.Repeat("x", i), 0o644)
			}
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if err := test.run(t, away(roundTrip, served), append(c.flags, c.from+"tree", c.to+"copy")...); err != nil {
					t.Fatalf("%v, %s", err, &test.problem)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("%d files took %d round trips one after the other", files, took/roundTrip)
				} else {
					t.Logf("%d round trips", took/roundTrip)
				}
			})
			sides := []string{test.local, test.remote}
			if c.from == "R:" {
				sides = []string{test.remote, test.local}
			}
			if diff := cmp.Diff(listing(t, sides[0]+"/tree"), listing(t, sides[1]+"/copy")); diff != "" {
				t.Errorf("what arrived (-want +got):\n%s", diff)
			}
		})
	}
}

// counted counts how often a subsystem is started.
func counted(starts *atomic.Int64, subsystem sftpclient.Subsystem) sftpclient.Subsystem {
	return func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		starts.Add(1)
		return subsystem(ctx, stdin, stdout)
	}
}

func TestALargeFileFarAwayIsSharedBySeveralStreams(t *testing.T) {
	const far = 50 * time.Millisecond
	for _, c := range []struct {
		name      string
		roundTrip time.Duration
		words     []string
		streams   int64
	}{
		{"far away, to a target", far, []string{"L:large", "R:copy"}, 4},
		{"far away, from a target", far, []string{"R:large", "L:copy"}, 4},
		{"over a file that exists", far, []string{"L:large", "R:old"}, 4},
		{"near", time.Millisecond, []string{"L:large", "R:copy"}, 1},
		{"a small one", far, []string{"L:small", "R:copy"}, 1},
		{"as many as asked for", time.Millisecond, []string{"--parallel=3", "L:large", "R:copy"}, 3},
		{"one as asked for", far, []string{"--parallel=1", "L:large", "R:copy"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := newCopyTest(t)
			large := strings.Repeat("0123456789abcdef", 17<<16)
			for _, side := range []string{test.local, test.remote} {
				put(t, side+"/large", large, 0o644)
				put(t, side+"/small", "small", 0o644)
				put(t, side+"/old", "old", 0o644)
			}
			var starts atomic.Int64
			synctest.Test(t, func(t *testing.T) {
				if err := test.run(t, counted(&starts, away(c.roundTrip, served)), c.words...); err != nil {
					t.Fatalf("%v, %s", err, &test.problem)
				}
			})
			if starts.Load() != c.streams {
				t.Errorf("%d streams, want %d", starts.Load(), c.streams)
			}
			from := c.words[len(c.words)-2]
			to := strings.NewReplacer("L:", test.local+"/", "R:", test.remote+"/").Replace(c.words[len(c.words)-1])
			want := map[string]string{"large": large, "small": "small"}[from[2:]]
			if got, err := os.ReadFile(to); err != nil || string(got) != want {
				t.Errorf("%d bytes arrived, error %v; want %d", len(got), err, len(want))
			}
		})
	}
}

func TestAStreamThatIsRefusedIsDoneWithout(t *testing.T) {
	for name, refusal := range map[string]sftpclient.Subsystem{
		"at once": func(context.Context, io.Reader, io.Writer) error { return &client.ExitError{Code: 1} },
		"never":   func(ctx context.Context, _ io.Reader, _ io.Writer) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			test := newCopyTest(t)
			put(t, test.local+"/large", strings.Repeat("x", 16<<20), 0o644)
			synctest.Test(t, func(t *testing.T) {
				var starts atomic.Int64
				began := time.Now()
				err := test.run(t, func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
					if starts.Add(1) > 1 {
						return refusal(ctx, stdin, stdout)
					}
					return away(50*time.Millisecond, served)(ctx, stdin, stdout)
				}, "L:large", "R:copy")
				if err != nil || time.Since(began) > 10*time.Second {
					t.Errorf("after %s: %v, %s", time.Since(began), err, &test.problem)
				}
			})
			if info, err := os.Stat(test.remote + "/copy"); err != nil || info.Size() != 16<<20 {
				t.Errorf("what arrived: %v, %v", info, err)
			}
		})
	}
}

func BenchmarkCopyFromATarget(b *testing.B) { benchmarkCopy(b, "R:", "L:") }
func BenchmarkCopyToATarget(b *testing.B)   { benchmarkCopy(b, "L:", "R:") }

// benchmarkCopy copies 64 MiB between two directories, without a network.
func benchmarkCopy(b *testing.B, from, to string) {
	test := &copyTest{local: b.TempDir(), remote: b.TempDir()}
	const size = 64 << 20
	for _, side := range []string{test.local, test.remote} {
		if err := os.WriteFile(side+"/big", make([]byte, size), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
	for b.Loop() {
		if err := test.run(b, served, from+"big", to+"copy"); err != nil {
			b.Fatal(err)
		}
	}
}
