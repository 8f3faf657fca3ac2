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
	server := t.server()
	for tries := 1; ; tries++ {
		var stream any
		if server != nil {
			stream = server.Stream()
		}
		err := t.copy(ctx, e)
		if server == nil || tries == maxTries || !filesystem.IsConnectionLost(err) || ctx.Err() != nil || !server.Renew(ctx, stream) {
			return err
		}
		t.rememberBroken(e.To, 0)
		t.removeLost()
		t.notes.Add("sent again, because the stream broke", e.From, "")
	}
}

// server returns the side that is one; nil if none is.
func (t *Transfer) server() filesystem.Server {
	for _, side := range []any{t.To, t.From} {
		if server, ok := side.(filesystem.Server); ok {
			return server
		}
	}
	return nil
}

// wantsPart reports whether a part of the file that is there is continued.
func (t *Transfer) wantsPart(e plan.Entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, again := t.broken[e.To]
	return (t.Resume || again) && t.canResume(e)
}

// rememberBroken keeps that a stream broke when the meter had counted n more bytes of a file.
func (t *Transfer) rememberBroken(name string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken == nil {
		t.broken = map[string]int64{}
	}
	t.broken[name] += n
}

// begin tells the meter from where on a file is copied.
func (t *Transfer) begin(e plan.Entry, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counted, again := t.broken[e.To]
	if !again {
		t.Meter.Skip(offset)
		return
	}
	t.Meter.Add(int(offset - counted))
	t.broken[e.To] = 0
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
