package poolset

import (
	"context"
	"errors"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
)

// Execution is how a command ran.
type Execution struct {
	driver.ExitStatus
	// Target is where it ran, Connection the ID of the connection over which.
	Target     Ref
	Connection uint64
	// How and Wait say how the connection was got.
	How  connpool.How
	Wait time.Duration
}

const (
	// MaxSessionRefusals bounds how often one command or shell may meet a server that allows
	// fewer sessions than its pool believes. Each meeting lowers the belief.
	MaxSessionRefusals = 8
	// proofTimeout bounds the proof that a connection on which a command did not
	// complete is still good.
	proofTimeout = 5 * time.Second
)

// Exec runs one command on a leased connection: Acquire, then ExecOn. What
// Acquire refused is in the chain of its error; it has a Reason if the remote or
// the load is to blame, and none if the request or the pool's declaration is.
func (s *Set) Exec(ctx context.Context, request Request, command driver.Command, streams driver.Streams) (Execution, error) {
	lease, err := s.Acquire(ctx, request)
	if err != nil {
		return Execution{}, notStarted(err)
	}
	return s.ExecOn(ctx, lease, request, command, streams)
}

// ExecOn runs one command on a lease of the request, and ends the lease. Its
// error carries the outcome: driver.OutcomeOf tells. A command whose session the
// server refused has proved not to have started and tries another connection,
// which it acquires as Exec does; nothing else is retried.
//
// When ctx ends, the remote process is signaled and the outcome is Unknown. A
// connection on which a command did not complete gives its slot to others only
// after it has proved that it still serves.
func (s *Set) ExecOn(
	ctx context.Context, lease Lease, request Request, command driver.Command, streams driver.Streams,
) (Execution, error) {
	for refusals := 0; ; refusals++ {
		execution, err := s.execOnce(ctx, lease, command, streams)
		if err == nil || refusals == MaxSessionRefusals || !isSessionRefusal(err) {
			return execution, err
		}
		if lease, err = s.Acquire(ctx, request); err != nil {
			return execution, notStarted(err)
		}
	}
}

func isSessionRefusal(err error) bool {
	var classified *driver.Error
	return errors.As(err, &classified) && classified.Reason == driver.SessionLimit && !classified.Started
}

func (s *Set) execOnce(ctx context.Context, lease Lease, command driver.Command, streams driver.Streams) (Execution, error) {
	execution := Execution{Target: lease.Target, Connection: lease.ID(), How: lease.How(), Wait: lease.Wait()}
	execer, ok := lease.Conn().(driver.Execer)
	if !ok {
		lease.Release()
		return execution, &driver.Error{
			Reason: driver.ProtocolError, Stage: driver.StageSession,
			Message: "targets of this kind run no commands; choose another target",
		}
	}
	status, err := execer.Exec(ctx, command, streams)
	execution.ExitStatus = status
	s.Return(lease, err)
	return execution, err
}

// Return ends a lease after what was done with it has ended with err: a connection
// that may be to blame gives its slot to others only after it has proved that it
// still serves.
func (s *Set) Return(lease Lease, err error) {
	switch {
	case err == nil:
		lease.Release()
	case isSessionRefusal(err):
		lease.Narrow()
	default:
		s.releaseProven(lease)
	}
}

// releaseProven gives a lease back whose connection may be to blame for what
// happened.
func (s *Set) releaseProven(lease Lease) { s.proveAndRelease(lease.Conn(), lease) }

// ender ends a lease by outcome.
type ender interface {
	Release()
	Discard()
}

// proveAndRelease gives a lease of the connection back: once it has answered,
// which nobody waits for, or else as broken.
func (s *Set) proveAndRelease(conn driver.Conn, lease ender) {
	proving := conn.Context().Err() == nil && s.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, proofTimeout)
		defer cancel()
		if err := conn.Probe(ctx); err != nil && !isSessionRefusal(err) {
			lease.Discard()
			return
		}
		lease.Release()
	})
	if !proving {
		lease.Discard()
	}
}

// background runs what nobody waits for but Close, and reports whether it does:
// a closed set does not.
func (s *Set) background(run func(context.Context)) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false
	}
	s.drains.Go(func() { run(s.ctx) })
	return true
}
