package cp

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
