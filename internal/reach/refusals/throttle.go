package refusals

import (
	"maps"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// Throttles are the servers that asked for a pause. A server does not refuse an
// account but any client from the operator's address, so what it told one target
// holds for all targets at the same address.
type Throttles struct {
	mu      sync.Mutex
	servers map[Server]refusal
}

// NewThrottles returns the throttles of no server.
func NewThrottles() *Throttles { return &Throttles{servers: map[Server]refusal{}} }

// Server is where connections arrive: an address, as seen from the jump host with
// the UID, or from the operator if that is empty.
type Server struct{ Address, JumpHost string }

// Refusal returns why the server must not be dialed now, as a *SharedError with
// the time that is left; nil if it may be.
func (t *Throttles) Refusal(of Server) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if told := t.servers[of]; told.holds() {
		return &SharedError{told.left()}
	}
	return nil
}

// Learn takes the result of a dial of the server. A success ends its throttle.
func (t *Throttles) Learn(of Server, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.servers, of)
		return
	}
	told := driver.AsError(err)
	if told.Reason != driver.ThrottledByServer || told.RetryAfter <= 0 {
		return
	}
	// The targets at these servers may be gone, and then nothing dials them again.
	maps.DeleteFunc(t.servers, func(_ Server, r refusal) bool { return !r.holds() })
	t.servers[of] = refusal{told, time.Now().Add(told.RetryAfter)}
}
