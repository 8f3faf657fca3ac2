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
	line     *line[C]
	since    instant
	answered chan struct{}
	// next is the next of state.answers.
	next  *waiter[C]
	lease *Lease[C]
	err   error
}

// line is the waiters of one user, in the order in which they came. While there are any
// it is in state.turns.
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
	l := s.lineOf(user)
	if s.waiting >= s.limits.MaxPending && !s.makeRoomFor(l) {
		s.dialFor(1, now)
		return nil, ErrQueueFull
	}
	w := s.newWaiter()
	w.since, w.line = now, l
	if l.turn.In == nil {
		s.turns.PushBack(&l.turn)
	}
	l.waiters.PushBack(&w.elem)
	s.waiting++
	s.dialWanted(now)
	s.fireBy(earlier(now+s.limits.AcquireTimeout, s.nextDial(now)), now)
	return w, nil
}

// makeRoomFor lets the last caller of the longest line go if there are two more in it than
// in the line of the one who comes, so that no user can fill the room of all the others.
func (s *state[C]) makeRoomFor(l *line[C]) bool {
	longest := l
	for t := s.turns.Head; t != nil; t = t.Next {
		if t.Value.waiters.Len > longest.waiters.Len {
			longest = t.Value
		}
	}
	if longest.waiters.Len < l.waiters.Len+2 {
		return false
	}
	s.answer(longest.waiters.Tail.Value, nil, ErrGaveWay)
	return true
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

// lineOf returns the line of a user. The one that was asked for last stays, also without
// waiters: most pools have one user at a time, who then costs no look into the map.
func (s *state[C]) lineOf(user string) *line[C] {
	last := s.lastLine
	if last != nil && last.user == user {
		return last
	}
	l := s.lines[user]
	if l == nil {
		l = &line[C]{user: user}
		l.turn.Value = l
		s.enter(l)
	}
	s.lastLine = l
	if last != nil {
		s.forgetEmpty(last)
	}
	return l
}

// enter puts a new line into the map. That of a first user is remembered without one, which
// would cost each target a quarter of a KiB.
func (s *state[C]) enter(l *line[C]) {
	if s.lastLine == nil {
		return
	}
	if s.lines == nil {
		s.lines = map[string]*line[C]{s.lastLine.user: s.lastLine}
	}
	s.lines[l.user] = l
}

// forgetEmpty forgets a line without waiters, unless it was the last that was asked for.
func (s *state[C]) forgetEmpty(l *line[C]) {
	if l.waiters.Len == 0 && l != s.lastLine {
		delete(s.lines, l.user)
	}
}

// newWaiter makes a waiter, or takes one that has been answered and read.
func (s *state[C]) newWaiter() *waiter[C] {
	if w, ok := s.pool.waiters.Get().(*waiter[C]); ok {
		return w
	}
	w := &waiter[C]{answered: make(chan struct{}, 1)}
	w.elem.Value = w
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

// answer takes a waiter out of its line. Its caller is told when the lock is free.
func (s *state[C]) answer(w *waiter[C], lease *Lease[C], err error) {
	l := w.line
	w.elem.Leave()
	s.waiting--
	if l.waiters.Len == 0 {
		l.turn.Leave()
		s.forgetEmpty(l)
	}
	w.line, w.lease, w.err = nil, lease, err
	w.next, s.answers = s.answers, w
}

// wake tells the callers who have been answered. It is called without the lock: to wake
// one takes longer than to lease.
func (w *waiter[C]) wake() {
	for w != nil {
		next := w.next
		w.next = nil
		w.answered <- struct{}{}
		w = next
	}
}

// serve gives free slots to the users who wait in turn, and those of each in the order in
// which its waiters came.
func (s *state[C]) serve(how How, now instant) {
	for s.turns.Head != nil {
		c := s.pick()
		if c == nil {
			return
		}
		l := s.turns.Head.Value
		if s.turns.Len > 1 {
			l.turn.Leave()
			s.turns.PushBack(&l.turn)
		}
		w := l.waiters.Head.Value
		s.answer(w, s.lease(c, how, now-w.since), nil)
	}
}

// dismiss answers waiters with an error: all when no lease can be had soon, else
// those who have waited for too long, who are the first in their lines.
func (s *state[C]) dismiss(now instant) {
	hopeless := s.hopeless(now)
	for t := s.turns.Head; t != nil; {
		next := t.Next // a line without waiters leaves
		s.dismissLine(t.Value, hopeless, now)
		t = next
	}
}

func (s *state[C]) dismissLine(l *line[C], hopeless error, now instant) {
	for l.waiters.Head != nil {
		err := hopeless
		if err == nil {
			if !due(s.patience(l), now) {
				return
			}
			err = s.overdue()
		}
		s.answer(l.waiters.Head.Value, nil, err)
	}
}

// overdueAt is when the first waiter has waited for too long; 0 without waiters.
func (s *state[C]) overdueAt() instant {
	var at instant
	for t := s.turns.Head; t != nil; t = t.Next {
		at = earlier(at, s.patience(t.Value))
	}
	return at
}

// patience is when the first waiter of a line has waited for too long.
func (s *state[C]) patience(l *line[C]) instant {
	return l.waiters.Head.Value.since + s.limits.AcquireTimeout
}
