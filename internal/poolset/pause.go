package poolset

import (
	"maps"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

// pauses are the servers that take no connections for a while. A server does not
// refuse an account but whoever comes from our address, so what one target was
// told holds for all targets there.
type pauses struct {
	mu      sync.Mutex
	servers map[server]pause
}

// server is where connections arrive.
type server struct{ address, bastion string }

type pause struct {
	verdict *driver.Error
	until   time.Time
}

func (e *edition) server() server { return server{e.access.Endpoint.Address, e.bastion()} }

// refusal is why a server must not be dialed now, with the time that is left;
// nil if it may be.
func (p *pauses) refusal(of server) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	told, ok := p.servers[of]
	left := time.Until(told.until)
	if !ok || left <= 0 {
		delete(p.servers, of)
		return nil
	}
	verdict := *told.verdict
	verdict.RetryAfter = left
	return &hearsay{&verdict}
}

// learn takes note of how a dial of a server ended.
func (p *pauses) learn(of server, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.servers, of)
		return
	}
	told := driver.AsError(err)
	if told.Reason != driver.ThrottledByServer || told.RetryAfter <= 0 {
		return
	}
	if p.servers == nil {
		p.servers = map[server]pause{}
	}
	// The targets that asked about these servers may be gone and never ask again.
	maps.DeleteFunc(p.servers, func(_ server, p pause) bool { return time.Until(p.until) <= 0 })
	p.servers[of] = pause{told, time.Now().Add(told.RetryAfter)}
}
