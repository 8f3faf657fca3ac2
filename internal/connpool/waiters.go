package connpool

import (
	"context"
	"time"
)

// waiter is a caller in the queue. Its results are set before answered is
// closed, and not changed after.
type waiter[C Conn] struct {
	place    element[*waiter[C]]
	since    instant
	answered chan struct{}
	lease    *Lease[C]
	err      error
}

// queue lets a caller wait for a slot, or says at once why that is hopeless.
func (s *state[C]) queue(now instant) (*waiter[C], error) {
	if err := s.hopeless(now); err != nil {
		return nil, err
	}
	if s.waiters.len >= s.limits.MaxPending {
		return nil, ErrQueueFull
	}
	w := &waiter[C]{since: now, answered: make(chan struct{})}
	w.place.value = w
	s.waiters.pushBack(&w.place)
	s.dialWanted(now)
	if s.gen.trouble.waits(now) {
		s.arm(now) // for the dial that this caller may now wait for
	}
	return w, nil
}

// hopeless is why no caller can get a lease soon; nil if one can.
func (s *state[C]) hopeless(now instant) error {
	if s.refuse != nil {
		return s.refuse
	}
	t := &s.gen.trouble
	if s.serving() > 0 || s.gen.dialing > 0 || !t.waits(now) {
		return nil
	}
	return &DownError{Err: t.err, Until: s.pool.at(t.next), Parked: t.parked}
}

// await returns what the waiter is given, or gives up.
func (p *Pool[C]) await(ctx context.Context, w *waiter[C], patience time.Duration) (*Lease[C], error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.answered:
	case <-ctx.Done():
		p.giveUp(w, func(*state[C]) error { return ctx.Err() })
	case <-timer.C:
		p.giveUp(w, (*state[C]).overdue)
	}
	return w.lease, w.err
}

// giveUp takes a caller out of the queue, unless it was answered just now.
func (p *Pool[C]) giveUp(w *waiter[C], why func(*state[C]) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.place.in != nil {
		p.s.answer(w, nil, why(&p.s))
	}
}

// overdue is why a caller waited in vain.
func (s *state[C]) overdue() error {
	switch {
	case s.serving() > 0:
		return ErrAcquireTimeout
	case s.gen.trouble.err != nil:
		return &DownError{Err: s.gen.trouble.err}
	case s.gen.dialing > 0:
		return &DownError{Err: ErrDialPending}
	default:
		return ErrAcquireTimeout // connections on their way out take all the room
	}
}

func (s *state[C]) answer(w *waiter[C], l *Lease[C], err error) {
	w.place.leave()
	w.lease, w.err = l, err
	close(w.answered)
}

// serve gives free slots to callers in the order in which they came.
func (s *state[C]) serve(how How, now instant) {
	for s.waiters.head != nil {
		c := s.pick()
		if c == nil {
			return
		}
		w := s.waiters.head.value
		s.answer(w, s.lease(c, how, now-w.since), nil)
	}
}

// dismiss answers everybody who waits in vain.
func (s *state[C]) dismiss(now instant) {
	err := s.hopeless(now)
	if err == nil {
		return
	}
	for s.waiters.head != nil {
		s.answer(s.waiters.head.value, nil, err)
	}
}
