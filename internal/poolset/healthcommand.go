package poolset

import (
	"context"
	"errors"
	"fmt"

	"github.com/connpool/connpool/internal/driver"
)

// runHealthCommand runs a health command; an exit code other than 0 is an error.
// It names no container or pod, so only hosts can run it.
func runHealthCommand(ctx context.Context, conn driver.Conn, command []string) error {
	execer, ok := conn.(driver.Execer)
	if !ok {
		return errors.New("the target runs no commands; remove health.command from the pool")
	}
	status, err := execer.Exec(ctx, driver.Command{Argv: command}, driver.Streams{})
	if err == nil && status.Code != 0 {
		return fmt.Errorf("health.command ended with exit code %d instead of 0; run it on the target to see why", status.Code)
	}
	return err
}

// healthCommandError classifies the error of a health command on a target that can
// be reached.
func healthCommandError(failure error) *driver.Error {
	err := &driver.Error{Reason: driver.ProbeFailed, Stage: driver.StageRun, Err: failure, Message: driver.Sanitize(failure.Error())}
	classified, ok := errors.AsType[*driver.Error](failure)
	switch {
	case ok && !classified.Started && classified.Reason == driver.ProtocolError:
		err.Message = "health.command runs on ssh targets only, so leave it out of pools of others: " + classified.Message
	case ok:
		err.Message = "health.command did not run to its end: " + classified.Message
	}
	return err
}
