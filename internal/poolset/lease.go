package poolset

import (
	"context"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach"
)

// Lease is the right to use one connection, until Return or a method of the lease
// gives it back.
type Lease struct {
	*connpool.Lease[*reach.Conn]
	Target Ref
}

// Conn returns the leased connection.
func (l Lease) Conn() driver.Conn { return l.Lease.Conn().Conn }

// Acquire leases a connection, waiting for one as the pool's policy says. A target that
// is known to be down is dialed for the caller, as connpool.Pool.Insist says.
func (s *Set) Acquire(ctx context.Context, request Request) (Lease, error) {
	began := time.Now()
	m, err := s.roster.route(request)
	if err != nil {
		return Lease{}, err
	}
	acquire := m.pool.InsistAs
	if request.Spread {
		acquire = m.pool.SpreadAs
	}
	lease, err := acquire(ctx, request.User)
	if err != nil {
		m.turn.Refused()
		return Lease{}, err
	}
	if m.meter != nil {
		m.meter.Acquired(m.owner, *m.kind.Load(), lease.How(), time.Since(began))
	}
	return Lease{Lease: lease, Target: m.target}, nil
}

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

// MaxSessionRefusals bounds how often one command or shell may meet a server that
// allows fewer channels than its pool believes. Each time lowers what the pool believes.
const MaxSessionRefusals = 8

// ExecOn runs one command on a lease of the request, and ends the lease. Its
// error carries the outcome: driver.OutcomeOf tells. A command for which the server
// refused a channel is proven not to have started and tries another connection,
// which it acquires in the same way. If Acquire refuses that, its error is in the
// chain, and the reason is empty unless the target is to blame. Nothing else is
// retried here.
//
// When ctx ends, the remote process is signaled and the outcome is Unknown. A
// connection on which a command did not complete gives its slot to others only
// after it has proved that it still serves.
func (s *Set) ExecOn(
	ctx context.Context, lease Lease, request Request, command driver.Command, streams driver.Streams,
) (Execution, error) {
	for refusals := 0; ; refusals++ {
		execution, err := s.execOnce(ctx, lease, command, streams)
		if refusals == MaxSessionRefusals || !reach.SessionRefused(err) {
			return execution, err
		}
		if lease, err = s.Acquire(ctx, request); err != nil {
			return execution, notStarted(err)
		}
		streams.Started = nil // whose time would have another wait in it
	}
}

// notStarted returns an error of Acquire as proof that nothing ran. A failure of the
// target stays as it was. What the pool itself refuses has no reason: it is put into
// words by those who know what the request was, by the error in the chain.
func notStarted(err error) error {
	failure := driver.Error{Message: driver.Sanitize(err.Error())}
	if classified, ok := driver.Classified(err); ok {
		failure = *classified
	}
	failure.Started, failure.Err = false, err
	return &failure
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
// still serves, and not if a leftover occupies it.
func (s *Set) Return(lease Lease, err error) {
	switch {
	case err == nil:
		lease.Release()
	case reach.SessionRefused(err):
		lease.Narrow()
	default:
		reach.ReleaseProven(lease.Lease, err)
	}
}
