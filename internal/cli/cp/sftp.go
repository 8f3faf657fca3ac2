package cp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pkg/sftp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/exit"
)

// subsystemFunc runs the sftp subsystem of a target until either side ends it.
type subsystemFunc func(ctx context.Context, stdin io.Reader, stdout io.Writer) error

// partingTime is how long a server may take to clean up after a canceled copy.
const partingTime = 3 * time.Second

type sftpClient struct {
	*sftp.Client

	cancel context.CancelFunc
	// forget stops waiting for the end of the caller's context.
	forget func() bool
	done   chan struct{}
	err    error // of the subsystem, once done is closed
}

// openSFTP opens a client. It outlives its context for a moment, so that temporary
// files can still be removed.
func openSFTP(ctx context.Context, subsystem subsystemFunc) (*sftpClient, error) {
	lastingCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &sftpClient{cancel: cancel, done: make(chan struct{})}
	s.forget = context.AfterFunc(ctx, func() { s.endSoon() })
	fromUs, toServer := io.Pipe()
	fromServer, toUs := io.Pipe()
	go func() {
		defer close(s.done)
		s.err = subsystem(lastingCtx, fromUs, toUs)
		_ = toUs.CloseWithError(io.EOF)
		_ = fromUs.CloseWithError(io.ErrClosedPipe)
	}()
	client, err := sftp.NewClientPipe(fromServer, toServer, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	if err != nil {
		_ = fromServer.CloseWithError(err)
		_ = toServer.Close()
		return nil, s.refused(ctx, err)
	}
	s.Client = client
	return s, nil
}

// refused returns why there is no client.
func (s *sftpClient) refused(ctx context.Context, err error) error {
	defer s.forget()
	defer s.endSoon().Stop()
	<-s.done
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isNoHost(s.err):
		return noHost(s.err)
	case isNoSFTP(s.err):
		return noSFTP(s.err)
	case s.err != nil:
		return s.err
	}
	return noSFTP(fmt.Errorf("the answer is not that of an sftp server: %w", err))
}

// endSoon ends the subsystem after partingTime, unless the timer is stopped.
func (s *sftpClient) endSoon() *time.Timer { return time.AfterFunc(partingTime, s.cancel) }

// close ends the subsystem, and returns its error if it has failed before.
func (s *sftpClient) close() error {
	defer s.forget()
	defer s.endSoon().Stop()
	_ = s.Client.Close()
	<-s.done
	if errors.Is(s.err, context.Canceled) {
		return nil
	}
	return s.err
}

// isNoHost reports whether the target is of a kind that has no subsystems.
func isNoHost(err error) bool {
	return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "subsystem")
}

func noHost(err error) error {
	return exit.Hint(fmt.Errorf("files are copied over sftp, which hosts have: %w", err),
		"In and out of containers and pods, tar does it, if they have one:\n\n"+
			"  tar cf - FILE... | kubectl connpool exec POOL --container NAME -i -- tar xf - -C /DIRECTORY\n"+
			"  kubectl connpool exec POOL --container NAME -- tar cf - -C /DIRECTORY FILE... | tar xf -")
}

// isNoSFTP reports whether the server has no such subsystem, or cannot start it.
func isNoSFTP(err error) bool {
	if _, ok := errors.AsType[*client.ExitError](err); ok {
		return true
	}
	failure, ok := errors.AsType[*client.Error](err)
	return ok && failure.Reason == v1alpha1.ReasonProtocolError
}

func noSFTP(err error) error {
	return exit.Hint(fmt.Errorf("sftp is not available on this target: %w", err),
		"Files are copied over the sftp subsystem. An sshd offers it by a line in its sshd_config:\n\n"+
			"  Subsystem sftp internal-sftp\n\n"+
			"and by a login that prints nothing without a terminal.")
}
