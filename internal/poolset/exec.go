package poolset

import (
	"context"
	"errors"
	"time"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/reach"
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

// MaxSessionRefusals bounds how often one command or shell may meet a server that
// allows fewer channels than its pool believes. Each time lowers what the pool believes.
const MaxSessionRefusals = 8

// execOn runs one command on a lease, and on another one if the server refuses a
// channel.
func execOn(
	ctx context.Context, lease Lease, another func() (Lease, error), command driver.Command, streams driver.Streams,
) (Execution, error) {
	for refusals := 0; ; refusals++ {
		execution, err := execOnce(ctx, lease, command, streams)
		if refusals == MaxSessionRefusals || !reach.SessionRefused(err) {
			return execution, err
		}
		if lease, err = another(); err != nil {
			return execution, notStarted(err)
		}
	}
}

// notStarted returns an error of Acquire as proof that nothing ran. A failure of the
// target stays as it was. What the pool itself refuses has no reason: it is put into
// words by those who know what the request was, by the error in the chain.
func notStarted(err error) error {
	failure := driver.Error{Message: driver.Sanitize(err.Error())}
	if classified, ok := errors.AsType[*driver.Error](err); ok {
		failure = *classified
	}
	failure.Started, failure.Err = false, err
	return &failure
}

func execOnce(ctx context.Context, lease Lease, command driver.Command, streams driver.Streams) (Execution, error) {
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
	lease.end(err)
	return execution, err
}

// end ends the lease after its use has ended with err.
func (l Lease) end(err error) {
	switch {
	case err == nil:
		l.Release()
	case reach.SessionRefused(err):
		l.Narrow()
	default:
		l.pool.ReleaseProven(l.Lease)
	}
}
