package connpool

import "context"

// scope is the life of dials, or of probes, that run at the same time.
type scope struct {
	ctx    context.Context //nolint:containedctx // that of what runs in the scope
	cancel context.CancelFunc
	users  int
}

// scopes makes a scope when something is to run, and drops it when nothing runs any
// more: a context that others were derived from costs half a KiB, which an idle pool
// need not keep. The pool's lock guards it.
type scopes struct{ current *scope }

// enter returns the scope of something that begins, and must leave it at its end.
func (s *scopes) enter() *scope {
	if s.current == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.current = &scope{ctx: ctx, cancel: cancel}
	}
	s.current.users++
	return s.current
}

// leave reports whether the scope was cut before the end.
func (s *scopes) leave(left *scope) (wasCut bool) {
	wasCut = left.ctx.Err() != nil
	if left.users--; left.users == 0 {
		left.cancel()
		if s.current == left {
			s.current = nil
		}
	}
	return wasCut
}

// cut ends the context of all that runs. What begins later gets another scope.
func (s *scopes) cut() {
	if s.current != nil {
		s.current.cancel()
		s.current = nil
	}
}
