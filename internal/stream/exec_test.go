package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/exec"

	"github.com/connpool/connpool/internal/driver"
)

type dialExec = func(testing.TB, *httptest.Server) remotecommand.Executor

func TestOutputAndExitCodeArrive(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		s := execServer(t, standard, ExecOptions{Stdout: true, Stderr: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			fmt.Fprint(streams.Stdout, "out")
			fmt.Fprint(streams.Stderr, "err")
			return exited("42")
		})
		var stdout, stderr bytes.Buffer
		err := dial(t, s).StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
		var exit exec.ExitError
		if !errors.As(err, &exit) || exit.ExitStatus() != 42 {
			t.Errorf("error %v, want exit code 42", err)
		}
		if diff := cmp.Diff([]string{"out", "err"}, []string{stdout.String(), stderr.String()}); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
	})
}

// sequence is a stream of numbered words, which show loss, doubling and reordering.
type sequence struct{ next, words uint32 }

func (s *sequence) Read(p []byte) (int, error) {
	if s.next == s.words {
		return 0, io.EOF
	}
	n := 0
	for ; n+4 <= len(p) && s.next < s.words; n += 4 {
		binary.LittleEndian.PutUint32(p[n:], s.next)
		s.next++
	}
	return n, nil
}

// sequenceChecker fails on the first word that is out of order.
type sequenceChecker struct {
	next    uint32
	pending []byte
}

func (c *sequenceChecker) Write(p []byte) (int, error) {
	c.pending = append(c.pending, p...)
	for ; len(c.pending) >= 4; c.pending = c.pending[4:] {
		if word := binary.LittleEndian.Uint32(c.pending); word != c.next {
			return 0, fmt.Errorf("word %d arrived, want %d", word, c.next)
		}
		c.next++
	}
	return len(p), nil
}

const tenMiB = 10 << 20 / 4

func TestTenMiBAreEchoedInOrder(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		if strings.Contains(t.Name(), "v4") {
			return // version 4 on a WebSocket has no end of input
		}
		s := execServer(t, standard, ExecOptions{Stdin: true, Stdout: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			if _, err := io.Copy(streams.Stdout, streams.Stdin); err != nil {
				return exited("1")
			}
			fmt.Fprint(streams.Stdout, "\x00\x00(\x00") // the word after the last: tenMiB
			return success()
		})
		var check sequenceChecker
		err := dial(t, s).StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdin: &sequence{words: tenMiB}, Stdout: &check})
		if err != nil || check.next != tenMiB+1 {
			t.Errorf("error %v after %d words, want all %d and one after the end of the input", err, check.next, tenMiB)
		}
	})
}

func TestUnreadInputDoesNotKeepTheStatusBack(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		s := execServer(t, standard, ExecOptions{Stdin: true, Stdout: true}, func(_ context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			_, _ = io.ReadFull(streams.Stdin, make([]byte, 4))
			return exited("3")
		})
		err := dial(t, s).StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdin: &sequence{words: tenMiB}, Stdout: io.Discard})
		var exit exec.ExitError
		if !errors.As(err, &exit) || exit.ExitStatus() != 3 {
			t.Errorf("error %v, want exit code 3", err)
		}
	})
}

// terminal gives sizes to a client.
type terminal chan remotecommand.TerminalSize

func (s terminal) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestTerminalSizesArrive(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		sizes := make(terminal, 1)
		var got []driver.WindowSize
		s := execServer(t, standard, ExecOptions{Stdout: true, Stderr: true, TTY: true}, func(_ context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status {
			if streams.Stderr != nil {
				return exited("1")
			}
			got = append(got, <-resize)
			sizes <- remotecommand.TerminalSize{Width: 100, Height: 30}
			got = append(got, <-resize)
			return success()
		})
		sizes <- remotecommand.TerminalSize{Width: 80, Height: 24}
		err := dial(t, s).StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdout: io.Discard, Tty: true, TerminalSizeQueue: sizes})
		close(sizes)
		if err != nil {
			t.Fatal(err)
		}
		want := []driver.WindowSize{{Columns: 80, Rows: 24}, {Columns: 100, Rows: 30}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sizes (-want +got):\n%s", diff)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestClosingClientEndsTheRunAtOnce(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		ctx, leave := context.WithCancel(testContext(t))
		cause := make(chan error, 1)
		s := execServer(t, standard, ExecOptions{Stdout: true}, func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
			fmt.Fprint(streams.Stdout, "ready")
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return success()
		})
		leaving := writerFunc(func(p []byte) (int, error) {
			leave()
			return len(p), nil
		})
		_ = dial(t, s).StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: leaving})
		if err := <-cause; !errors.Is(err, ErrClientGone) {
			t.Errorf("cause %v, want %v", err, ErrClientGone)
		}
	})
}

func TestStatusArrivesWhenTheServerEndsTheRun(t *testing.T) {
	eachProtocol(t, func(t *testing.T, dial dialExec) {
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			ctx, end := context.WithCancel(r.Context())
			defer end()
			ServeExec(w, r.WithContext(ctx), ExecOptions{Stdout: true}, func(ctx context.Context, streams driver.Streams, _ <-chan driver.WindowSize) *metav1.Status {
				end()
				<-ctx.Done()
				fmt.Fprint(streams.Stdout, "last words")
				return &metav1.Status{Status: metav1.StatusFailure, Message: "access was revoked"}
			})
		})
		var stdout bytes.Buffer
		err := dial(t, s).StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdout: &stdout})
		if err == nil || err.Error() != "access was revoked" || stdout.String() != "last words" {
			t.Errorf("error %v after %q, want the status and all output", err, stdout.String())
		}
	})
}
