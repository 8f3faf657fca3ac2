package connpool

import (
	"context"

	"github.com/connpool/connpool/internal/list"
)

// waiter is a caller in the queue. Its results are set before answered gets its
// one value. From then on they belong to the caller, who reads them and gives the
// waiter back to be used again.
type waiter[C Conn] struct {
	elem     list.Element[*waiter[C]]
	inLine   list.Element[*waiter[C]]
	line     *line[C]
	since    instant
	answered chan struct{}
	lease    *Lease[C]
	err      error
}

// line is the waiters of one user, in the order in which they came. It is in state.turns.
type line[C Conn] struct {
	user    string
	turn    list.Element[*line[C]]
	waiters list.List[*waiter[C]]
}

// queue lets a caller wait for a slot, or returns at once why it cannot get one.
func (s *state[C]) queue(user string, now instant) (*waiter[C], error) {
	if err := s.hopeless(now); err != nil {
		return nil, err
	}
	if s.waiters.Len >= s.limits.MaxPending {
		s.dialFor(1, now)
		return nil, ErrQueueFull
	}
	w := s.newWaiter()
	w.since = now
	s.waiters.PushBack(&w.elem)
	s.join(w, user)
	s.dialWanted(now)
	s.fireBy(earlier(s.overdueAt(), s.nextDial(now)), now)
	return w, nil
}

// hopeless returns why no caller can get a lease soon; nil if one can.
func (s *state[C]) hopeless(now instant) error {
	if s.refuse != nil {
		return s.refuse
	}
	t := &s.gen.streak
	if s.serving() > 0 || s.gen.dialing > 0 || !t.waits(now) {
		return nil
	}
	return &DownError{Err: t.err, Until: s.pool.at(t.next), Parked: t.parked}
}

// await returns what the waiter is given, or gives up when ctx ends.
func (p *Pool[C]) await(ctx context.Context, w *waiter[C]) (*Lease[C], error) {
	select {
	case <-w.answered:
	case <-ctx.Done():
		p.giveUp(w, ctx.Err())
		<-w.answered
	}
	lease, err := w.lease, w.err
	w.lease, w.err = nil, nil
	p.waiters.Put(w)
	return lease, err
}

// join puts a waiter at the end of the line of its user.
func (s *state[C]) join(w *waiter[C], user string) {
	w.line = s.lines[user]
	if w.line == nil {
		w.line, s.spareLine = s.spareLine, nil
		if w.line == nil {
			w.line = &line[C]{}
			w.line.turn.Value = w.line
		}
		if s.lines == nil { // not before it is needed: most pools have no one who waits
			s.lines = map[string]*line[C]{}
		}
		w.line.user, s.lines[user] = user, w.line
		s.turns.PushBack(&w.line.turn)
	}
	w.line.waiters.PushBack(&w.inLine)
}

// leaveLine takes a waiter out of its line, which ends with its last waiter.
func (s *state[C]) leaveLine(w *waiter[C]) {
	of := w.line
	w.inLine.Leave()
	w.line = nil
	if of.waiters.Len > 0 {
		return
	}
	of.turn.Leave()
	delete(s.lines, of.user)
	s.spareLine = of
}

// newWaiter makes a waiter, or takes one that has been answered and read.
func (s *state[C]) newWaiter() *waiter[C] {
	if w, ok := s.pool.waiters.Get().(*waiter[C]); ok {
		return w
	}
	w := &waiter[C]{answered: make(chan struct{}, 1)}
	w.elem.Value, w.inLine.Value = w, w
	return w
}

// giveUp removes a waiter from the queue, unless it was answered just now.
func (p *Pool[C]) giveUp(w *waiter[C], err error) {
	p.mu.Lock()
	defer p.unlock()
	if w.elem.In != nil {
		p.s.answer(w, nil, err)
	}
}

// overdue returns the error of a caller that waited for too long.
func (s *state[C]) overdue() error {
	switch {
	case s.serving() > 0:
		return ErrAcquireTimeout
	case s.gen.streak.err != nil:
		return &DownError{Err: s.gen.streak.err}
	case s.gen.dialing > 0:
		return &DownError{Err: ErrDialPending}
	default:
		return ErrAcquireTimeout // connections on their way out take all the room
	}
}

func (s *state[C]) answer(w *waiter[C], l *Lease[C], err error) {
	w.elem.Leave()
	s.leaveLine(w)
	w.lease, w.err = l, err
	w.answered <- struct{}{}
}

// serve gives free slots to the users who wait in turn, and those of each in the order in
// which its waiters came.
func (s *state[C]) serve(how How, now instant) {
	for s.turns.Head != nil {
		c := s.pick()
		if c == nil {
			return
		}
		next := s.turns.Head.Value
		next.turn.Leave()
		s.turns.PushBack(&next.turn)
		w := next.waiters.Head.Value
		s.answer(w, s.lease(c, how, now-w.since), nil)
	}
}

// dismiss answers waiters with an error: all when no lease can be had soon, else
// those who have waited for too long, who are the first in the queue.
func (s *state[C]) dismiss(now instant) {
	hopeless := s.hopeless(now)
	for s.waiters.Head != nil {
		err := hopeless
		if err == nil {
			if !due(s.overdueAt(), now) {
				return
			}
			err = s.overdue()
		}
		s.answer(s.waiters.Head.Value, nil, err)
	}
}

// overdueAt is when the first waiter has waited for too long; 0 without waiters.
func (s *state[C]) overdueAt() instant {
	if s.waiters.Head == nil {
		return 0
	}
	return s.waiters.Head.Value.since + s.limits.AcquireTimeout
}
