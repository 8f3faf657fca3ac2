package operator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// busy is a server and its uses, which go on after the server was told to end.
type busy struct {
	done chan struct{}
	cut  bool
}

func (b *busy) Run(context.Context) error {
	<-b.done
	return nil
}

func (b *busy) Wait(ctx context.Context) error {
	select {
	case <-b.done:
	case <-ctx.Done():
		b.cut = true
		close(b.done)
	}
	return ctx.Err()
}

// The manager gives the Lease back when everything that it runs has ended. A shell
// that a user left open must not keep the Lease from the next leader.
func TestTheManagerDoesNotWaitForWhatRuns(t *testing.T) {
	for name, test := range map[string]struct {
		want time.Duration
		cut  bool
	}{
		"which ends by itself": {time.Minute, false},
		"which is cut":         {5 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				uses := &busy{done: make(chan struct{})}
				api := &liveAPI{serve: uses.Run, waitForUses: uses.Wait}
				ctx, terminate := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- api.Start(ctx) }()
				synctest.Wait()
				terminate()
				terminated := time.Now()
				if err := <-ended; err != nil || time.Since(terminated) != 0 {
					t.Errorf("the manager's part ended after %v with %v", time.Since(terminated), err)
				}
				if !test.cut {
					time.AfterFunc(test.want, func() { close(uses.done) })
				}
				patience, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				api.finish(patience)
				synctest.Wait()
				if after := time.Since(terminated); after != test.want || uses.cut != test.cut {
					t.Errorf("finished after %v, cut %t", after, uses.cut)
				}
			})
		})
	}
}

func TestWhatNeverServedHasNothingToFinish(t *testing.T) {
	var none *liveAPI
	none.finish(t.Context())
	idle := &busy{done: make(chan struct{})}
	close(idle.done)
	(&liveAPI{serve: idle.Run, waitForUses: idle.Wait}).finish(t.Context())
}
