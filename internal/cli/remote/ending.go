package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/exit"
)

// Ending is how to report the end of a command.
type Ending struct {
	// Quiet prints nothing: only the exit code reports the end.
	Quiet bool
	// Asked is what was asked for, in case that it was refused.
	Asked cluster.Asked
	// Interrupted says what Ctrl-C did to the command.
	Interrupted string
}

// Signaled is what Ctrl-C does to a command that has a channel of its own.
const Signaled = "the command was told to end, and may have done part of its work; " +
	"a server that allows no signals, such as sshd for root, lets it go on"

// Error returns the error whose exit code is the command's or, if the command has
// none, says why.
func (e Ending) Error(ctx context.Context, c *cluster.Cluster, result client.Result, err error) error {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*client.ExitError](err); ok {
		return exit.With(own.Code)
	}
	code, err := e.withoutCode(ctx, c, result, err)
	if e.Quiet {
		err = nil
	}
	return exit.WithError(code, err)
}

// withoutCode returns the exit code for a command whose own is not known, and
// what to print.
func (e Ending) withoutCode(ctx context.Context, c *cluster.Cluster, result client.Result, err error) (int, error) {
	switch {
	case ctx.Err() != nil && errors.Is(err, client.ErrNotStarted):
		return exit.Interrupted, errors.New("interrupted before the command started")
	case ctx.Err() != nil:
		return exit.Interrupted, fmt.Errorf("interrupted: %s%s", e.Interrupted, requestOf(result))
	case errors.Is(err, client.ErrNotStarted):
		return exit.NotStarted, c.Explain(ctx, err, e.Asked)
	default:
		return exit.Unknown, exit.Hint(err, "Find out whether it ran before you run it again.")
	}
}

// requestOf names the request, so that the user can look for it in the logs.
func requestOf(result client.Result) string {
	if result.RequestID == "" {
		return ""
	}
	return " (request " + result.RequestID + ")"
}
