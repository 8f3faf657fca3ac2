// Package preparation parses what accesses hold, such as keys: once for each version
// of an access, and for each namespace only a few at a time.
//
// To decrypt a key may take seconds of CPU, and the user who writes the Secret decides how
// many. So no caller that works for all namespaces waits for it: Start returns at
// once, and the callers of Dialer wait on goroutines of their own. Namespaces take
// turns, so that one with many expensive keys delays only itself.
package preparation

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/dialbudget"
	"github.com/connpool/connpool/internal/driver"
)

const (
	// perNamespace is how many preparations of one namespace run at the same time.
	perNamespace = 1
	// memory is how long a result is taken for new. What fails is not tried again
	// before, and what succeeded is examined anew by a check: it may have expired.
	memory = time.Minute
)

// RunningError means that the result is not known yet.
type RunningError struct {
	// Since is when the preparation was first wanted.
	Since time.Time
	// Done is closed when the result is known.
	Done <-chan struct{}
}

// Error says what to wait for.
func (e *RunningError) Error() string {
	return "the credentials are being prepared, or are waiting for their turn: those of one namespace are prepared one at a time"
}

// Shares bound the preparations that run at the same time.
type Shares struct{ turns *dialbudget.Budget }

// NewShares returns shares that let as many preparations run as there are processors,
// and at least two, so that one that takes long does not keep all others waiting.
func NewShares() *Shares {
	return &Shares{dialbudget.New(max(1, runtime.GOMAXPROCS(0)/2), perNamespace, 1)}
}

// Preparation is that of one endpoint. It is safe for concurrent use.
type Preparation struct {
	shares    *Shares
	namespace string
	prepare   func() (driver.Dialer, error)
	since     time.Time
	// turn is held by the one caller that prepares.
	turn chan struct{}

	mu sync.Mutex
	// running is closed when the preparation in the background ends; nil if none runs.
	running chan struct{}
	last    result
	// dialer is that of the last success.
	dialer driver.Dialer
}

// result is how a preparation ended, and when.
type result struct {
	dialer driver.Dialer
	err    error
	at     time.Time
}

// New returns the preparation of an endpoint, which belongs to a namespace and must not
// change.
func (s *Shares) New(namespace string, by driver.Driver, endpoint *driver.Endpoint) *Preparation {
	return &Preparation{
		shares: s, namespace: namespace, since: time.Now(), turn: make(chan struct{}, 1),
		prepare: func() (driver.Dialer, error) { return by.Prepare(*endpoint) },
	}
}

// Start returns how the preparation ended: with nil, or with a *driver.Error. It never
// waits. If the result is not known, or is a failure that is no longer new, it uses
// background to prepare, which calls then at its end. Without a result the error is a
// *RunningError.
func (p *Preparation) Start(background func(func(context.Context)) bool, then func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialer != nil {
		return nil
	}
	running := p.running
	if running == nil && !p.last.isNew() {
		running = make(chan struct{})
		p.running = running
		if !background(func(ctx context.Context) { p.run(ctx, then) }) {
			p.end()
		}
	}
	if p.last.err != nil {
		return own(p.last.err)
	}
	return &RunningError{p.since, running}
}

// run prepares in the background.
func (p *Preparation) run(ctx context.Context, then func()) {
	_, _ = p.Dialer(ctx) // which keeps the result
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	then()
}

// end tells those who wait that no preparation runs any more. The caller holds mu.
func (p *Preparation) end() {
	close(p.running)
	p.running = nil
}

// Dialer returns the dialer, or the *driver.Error of a failure that is new. If need be
// it prepares, when it is the namespace's turn.
func (p *Preparation) Dialer(ctx context.Context) (driver.Dialer, error) {
	return p.result(ctx, func() (driver.Dialer, error, bool) {
		if p.dialer != nil {
			return p.dialer, nil, true
		}
		return nil, p.last.err, p.last.isNew()
	})
}

// Known returns the dialer if there is one already; nil if not.
func (p *Preparation) Known() driver.Dialer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialer
}

// Checked is Dialer with a result that is new.
func (p *Preparation) Checked(ctx context.Context) (driver.Dialer, error) {
	return p.result(ctx, func() (driver.Dialer, error, bool) { return p.last.dialer, p.last.err, p.last.isNew() })
}

// result returns what is known, or else prepares. One caller prepares at a time, so
// that those who wait share its result.
func (p *Preparation) result(ctx context.Context, known func() (driver.Dialer, error, bool)) (driver.Dialer, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	dialer, err, ok := known()
	p.mu.Unlock()
	if ok {
		return dialer, own(err)
	}
	done, err := p.shares.turns.Admit(ctx, dialbudget.Route{Namespace: p.namespace, Host: p.namespace})
	if err != nil {
		return nil, err
	}
	dialer, err = p.prepare()
	done(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = result{dialer, err, time.Now()}
	if err != nil {
		return nil, own(err)
	}
	p.dialer = dialer
	return dialer, nil
}

// own returns a copy of a driver's error, which its caller may change; nil for nil.
func own(err error) error {
	if err == nil {
		return nil
	}
	mine := *driver.AsError(err)
	return &mine
}

// isNew reports whether there is a result that need not be repeated.
func (r result) isNew() bool { return !r.at.IsZero() && time.Since(r.at) < memory }
