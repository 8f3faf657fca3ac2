package remote

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/exit"
)

// streamerFunc is a Streamer.
type streamerFunc func(context.Context, client.Streams) (client.Result, error)

// Stream implements Streamer.
func (f streamerFunc) Stream(ctx context.Context, _ client.Command, streams client.Streams) (client.Result, error) {
	return f(ctx, streams)
}

// open has a lease on a target that takes signals.
func open(streams client.Streams) {
	streams.Opened(client.Result{Target: "web-1", RequestID: "req-7", Signals: livev1alpha1.SignalsByServer})
}

func TestAfterASignalACommandHasFiveSecondsToEnd(t *testing.T) {
	failed := &client.ExitError{Code: 3}
	tests := map[string]struct {
		takes time.Duration // after the signal
		want  time.Duration
		err   error
		note  string
	}{
		"it ends at once, without a note": {0, 0, failed, ""},
		"it takes a while, with a note":   {4 * time.Second, 4 * time.Second, failed, "SIGINT was sent to the command, which has up to 5s to end"},
		"it takes too long, and is left":  {time.Hour, 5 * time.Second, client.ErrUnknown, "SIGINT was sent"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, interrupt := context.WithCancel(t.Context())
				run := streamerFunc(func(ctx context.Context, streams client.Streams) (client.Result, error) {
					open(streams)
					interrupt()
					if signal := <-streams.Signals; signal != "INT" {
						t.Errorf("got the signal %q", signal)
					}
					select {
					case <-time.After(test.takes):
						return client.Result{ExitCode: 3}, failed
					case <-ctx.Done():
						return client.Result{ExitCode: -1}, ctx.Err()
					}
				})
				began, notes := time.Now(), &bytes.Buffer{}
				_, err := Stream(ctx, run, client.Command{}, client.Streams{}, notes)
				if took := time.Since(began); took != test.want || !errors.Is(err, test.err) {
					t.Errorf("%v after %s", err, took)
				}
				if said := notes.String(); !strings.Contains(said, test.note) || test.note == "" && said != "" {
					t.Errorf("noted %q", said)
				}
			})
		})
	}
}

func TestASignalBeforeTheCommandHasAConnectionEndsTheWait(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	waiting := streamerFunc(func(ctx context.Context, _ client.Streams) (client.Result, error) {
		interrupt()
		<-ctx.Done()
		return client.Result{}, &client.Error{Outcome: livev1alpha1.OutcomeNotStarted}
	})
	if _, err := Stream(ctx, waiting, client.Command{}, client.Streams{}, nil); !errors.Is(err, client.ErrNotStarted) {
		t.Error(err)
	}
}

func TestAnOutputThatIsStuckDoesNotKeepTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancelCause(t.Context())
		released := make(chan struct{})
		stuck := streamerFunc(func(_ context.Context, streams client.Streams) (client.Result, error) {
			open(streams)
			interrupt(&exit.SignalError{Name: "HUP", Code: exit.HungUp})
			<-released
			return client.Result{}, nil
		})
		_, err := Stream(ctx, stuck, client.Command{}, client.Streams{}, nil)
		if !errors.Is(err, client.ErrUnknown) || !strings.Contains(err.Error(), "SIGHUP was sent") {
			t.Error(err)
		}
		close(released)
	})
}

func TestTheTargetThatAPoolHasChosenIsSaid(t *testing.T) {
	for routing, want := range map[string]string{"LeastLoaded": "note: running on web-2, chosen by the pool\n", "": ""} {
		var notes bytes.Buffer
		run := streamerFunc(func(_ context.Context, streams client.Streams) (client.Result, error) {
			streams.Opened(client.Result{Target: "web-2", Routing: routing})
			return client.Result{}, nil
		})
		if _, err := Stream(t.Context(), run, client.Command{}, client.Streams{}, &notes); err != nil || notes.String() != want {
			t.Errorf("%q: noted %q, %v", routing, &notes, err)
		}
	}
}
