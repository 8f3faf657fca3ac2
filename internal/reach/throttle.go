package reach

import (
	"maps"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// throttles are the servers that asked for a pause. A server does not refuse an
// account but any client from the operator's address, so what it told one target
// holds for all targets at the same address.
type throttles struct {
	mu      sync.Mutex
	servers map[server]refusal
}

// server is where connections arrive: an address, as seen from the jump host with
// the UID, or from the operator if that is empty.
type server struct{ address, jumpHost string }

// refusal returns why the server must not be dialed now, as a *sharedError with
// the time that is left; nil if it may be.
func (t *throttles) refusal(of server) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if told := t.servers[of]; told.holds() {
		return &sharedError{told.left()}
	}
	return nil
}

// learn takes the result of a dial of the server. A success ends its throttle.
func (t *throttles) learn(of server, err error) {
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
	maps.DeleteFunc(t.servers, func(_ server, r refusal) bool { return !r.holds() })
	t.servers[of] = refusal{told, time.Now().Add(told.RetryAfter)}
}
