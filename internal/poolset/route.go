package poolset

import "errors"

// Errors of Acquire, ExecOn and Check that say what a request got wrong. Those of
// connpool.Pool.Acquire come through as they are.
var (
	// ErrUnknownPool means that the pool does not exist, or has no target that can
	// be used: the set knows pools by their targets only.
	ErrUnknownPool = errors.New("poolset: no such pool")
	// ErrUnknownTarget means that the pool does not have the target, or that it cannot
	// be used.
	ErrUnknownTarget = errors.New("poolset: the pool has no such target")
)

// Request says which connection is wanted.
type Request struct {
	// Pool is the UID of the pool.
	Pool string
	// Target is the UID of the target. When empty, the least loaded target that
	// serves is used, and of several the one that was chosen least recently; whether a
	// pool allows that is for the caller to know.
	Target string
	// User tells those who wait for a connection apart: they get theirs in turn.
	User string
	// Spread prefers the connection with the fewest uses, for one that would fill a
	// connection by itself.
	Spread bool
}

// route finds the member that serves the request.
func (r *roster) route(request Request) (*member, error) {
	r.mu.RLock()
	m, turns := r.pools[request.Pool][request.Target], r.turns[request.Pool]
	r.mu.RUnlock()
	switch {
	case m != nil:
		m.turn.Chosen()
		return m, nil
	case turns == nil:
		return nil, ErrUnknownPool
	case request.Target != "":
		return nil, ErrUnknownTarget
	}
	m, ok := turns.Choose()
	if !ok {
		return nil, ErrUnknownPool // its last target has left just now
	}
	return m, nil
}
