package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	// Command that has ended, and where notes about it go.
	Command *Command
	Notes   io.Writer
}

// Error returns an error with the exit code of the command or, without one, says why.
func (e Ending) Error(ctx context.Context, c *cluster.Cluster, err error) error {
	if err == nil {
		return exit.With(0) // also after a signal that the command has outlived
	}
	if own, ok := errors.AsType[*client.ExitError](err); ok {
		if !e.Quiet {
			exit.PrintNote(e.Notes, e.Command.Note(own.Code))
		}
		return exit.With(own.Code)
	}
	code, err := e.withoutCode(ctx, c, err)
	if e.Quiet {
		err = nil
	}
	return exit.WithError(code, err)
}

// withoutCode returns the exit code and the error if that of the command is unknown.
func (e Ending) withoutCode(ctx context.Context, c *cluster.Cluster, err error) (int, error) {
	interrupted := ctx.Err() != nil
	switch {
	case interrupted && errors.Is(err, client.ErrNotStarted):
		return exit.SignalOf(ctx).Code, errors.New("interrupted before the command started")
	case errors.Is(err, client.ErrNotStarted):
		return exit.NotStarted, c.Explain(ctx, err, e.Asked)
	}
	if interrupted {
		err = exit.Hint(fmt.Errorf("interrupted: %w", err), "Find out whether it still runs before you run it again.")
		return exit.SignalOf(ctx).Code, err
	}
	return exit.Unknown, exit.Hint(err, "Find out whether it ran before you run it again.")
}
