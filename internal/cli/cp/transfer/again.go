package transfer

import (
	"context"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
	"github.com/connpool/connpool/internal/cli/cp/plan"
)

// maxTries is how often a file is copied whose streams break.
const maxTries = 4

// persist copies, and again over another stream when one breaks. What has arrived of a large
// file is continued.
func (t *Transfer) persist(ctx context.Context, e plan.Entry) error {
	server := filesystem.ServerOf(t.To, t.From)
	for tries := 1; ; tries++ {
		var stream any
		if server != nil {
			stream = server.Stream()
		}
		err := t.copy(ctx, e)
		if server == nil || tries == maxTries || !filesystem.IsConnectionLost(err) || ctx.Err() != nil || !server.Renew(ctx, stream) {
			return err
		}
		t.Meter.Broke(e.To, 0)
		t.removeLost()
		t.notes.Add("sent again, because the stream broke", e.From, "")
	}
}

// wantsPart reports whether a part of the file that is there is continued.
func (t *Transfer) wantsPart(e plan.Entry) bool {
	return t.canResume(e) && (t.Resume || t.Meter.HasBroken(e.To))
}

// removeLost removes the temporary files that a broken stream has left.
func (t *Transfer) removeLost() {
	t.mu.Lock()
	lost := t.lost
	t.lost = nil
	t.mu.Unlock()
	for _, name := range lost {
		t.discard(name)
	}
}
