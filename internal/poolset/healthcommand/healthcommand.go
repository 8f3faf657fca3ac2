// Package healthcommand runs the health command of a pool on a target, and says what came
// of it.
//
//	failure := healthcommand.Run(ctx, conn, command)
//	err := healthcommand.Error(failure)
package healthcommand

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// Run runs a health command; an exit code other than 0 is an error, which
// repeats what was printed: a login without a right to run anything says so there.
// The command names no container or pod, so only hosts can run it.
func Run(ctx context.Context, conn driver.Conn, command []string) error {
	execer, ok := conn.(driver.Execer)
	if !ok {
		return errors.New("the target runs no commands; remove health.command from the pool")
	}
	printed := new(printed)
	status, err := execer.Exec(ctx, driver.Command{Argv: command}, driver.Streams{Stdout: printed, Stderr: printed})
	if err == nil && status.Code != 0 {
		return fmt.Errorf("health.command ended with exit code %d instead of 0; run it on the target to see why%s", status.Code, printed)
	}
	return err
}

// printed keeps the beginning of what a command prints.
type printed struct {
	mu   sync.Mutex // two streams are written
	text strings.Builder
}

const maxPrinted = 128

// Write implements io.Writer.
func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(text[:min(len(text), maxPrinted-p.text.Len())])
	return len(text), nil
}

// String is the end of a message, made safe.
func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if words := driver.Sanitize(p.text.String()); words != "" {
		return ". It printed: " + words
	}
	return ""
}

// Error classifies the error of a health command on a target that can
// be reached.
func Error(failure error) *driver.Error {
	err := &driver.Error{Reason: driver.ProbeFailed, Stage: driver.StageRun, Err: failure, Message: driver.Sanitize(failure.Error())}
	classified, ok := driver.Classified(failure)
	switch {
	case ok && !classified.Started && classified.Reason == driver.ProtocolError:
		err.Message = "health.command runs on ssh targets only, so remove it from pools of other types: " + classified.Message
	case ok:
		err.Message = "health.command did not run to its end: " + classified.Message
	}
	return err
}
