// Package sftpclient opens an sftp client on a target, and says why there is none.
//
// The library of the client makes files and directories without saying with which
// permissions, so that a secret would be readable until they are changed, and servers
// that refuse to change them would get no file. It keeps whatever a server lists, and
// waits for ever for an answer. A guard between the library and the server puts the
// permissions into the requests, bounds what is listed, and knows for how long the
// server has been silent.
//
// Trade-off: the guard reads the heads of packets that the library reads again. The
// alternative, an sftp client of our own, would be ten times as long.
package sftpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/pkg/sftp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/exit"
)

// Subsystem runs the sftp subsystem of a target until either side ends it.
type Subsystem func(ctx context.Context, stdin io.Reader, stdout io.Writer) error

// partingTime is how long a server may take to clean up after a canceled copy.
const partingTime = 3 * time.Second

// Client is an open client.
type Client struct {
	*sftp.Client

	guard      guard
	pieceBytes int
	cancel     context.CancelFunc
	// forget stops waiting for the end of the caller's context.
	forget func() bool
	closed func()
	done   chan struct{}
	err    error // of the subsystem, once done is closed
}

// Open opens a client. It outlives its context for a moment, so that temporary
// files can still be removed. What the server makes the user wait for is said on notes.
func Open(ctx context.Context, subsystem Subsystem, notes io.Writer) (*Client, error) {
	lastingCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Client{cancel: cancel, done: make(chan struct{}), closed: func() {}}
	s.forget = context.AfterFunc(ctx, func() { s.endSoon() })
	fromUs, toServer := newPipe()
	fromServer, toUs := newPipe()
	go func() {
		defer close(s.done)
		s.err = subsystem(lastingCtx, fromUs, s.guard.answers(toUs))
		_ = toUs.CloseWithError(io.EOF)
		_ = fromUs.CloseWithError(io.ErrClosedPipe)
	}()
	go s.watch(notes)
	client, err := sftp.NewClientPipe(fromServer, s.guard.requests(toServer), sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	if err != nil {
		_ = toServer.Close()
		// How the program ends may say more than what it has sent.
		go func() { _, _ = io.Copy(io.Discard, fromServer) }()
		return nil, s.refused(ctx, err)
	}
	s.Client, s.pieceBytes = client, portableBytes
	if _, ok := client.HasExtension("limits@openssh.com"); ok {
		s.pieceBytes = opensshBytes
		_ = sftp.MaxPacketUnchecked(opensshBytes)(client) // it is positive
	}
	return s, nil
}

// How much one request carries: what every server takes, and what OpenSSH takes since it
// has this extension, and its own client uses.
const (
	portableBytes = 32 << 10
	opensshBytes  = 255 << 10
)

// PieceBytes returns how much one request to read or write may carry.
func (s *Client) PieceBytes() int { return s.pieceBytes }

// noteAfter is how long a server may keep silent, although it was asked something,
// before the user is told.
const noteAfter = 15 * time.Second

// GiveUpAfter is how long it may do so before the client ends.
const GiveUpAfter = 5 * time.Minute

// watch says when the server keeps silent, and ends the subsystem of one that does
// so for too long.
func (s *Client) watch(notes io.Writer) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	noted := false
	for {
		select {
		case <-s.done:
			return
		case <-ticker.C:
		}
		silence := s.guard.silence()
		switch {
		case silence >= GiveUpAfter:
			s.guard.fail(fmt.Errorf("the sftp server has not answered for %s", GiveUpAfter))
			s.cancel()
			return
		case silence >= noteAfter && !noted:
			fmt.Fprintf(notes, "note: the sftp server has not answered for %s; after %s the copy ends, and Ctrl-C ends it now\n",
				noteAfter, GiveUpAfter)
		}
		noted = silence >= noteAfter
	}
}

// refused returns why there is no client.
func (s *Client) refused(ctx context.Context, err error) error {
	defer s.forget()
	defer s.endSoon().Stop()
	<-s.done
	said, _, _ := strings.Cut(strings.TrimSpace(s.guard.said()), "\n")
	said = display.OneLine(strings.ToValidUTF8(said, ""))
	own, ended := errors.AsType[*client.ExitError](s.err)
	switch {
	case s.guard.err() != nil:
		return s.guard.err()
	case ctx.Err() != nil:
		return ctx.Err()
	case isNoHost(s.err):
		return noHost(s.err)
	case ended && said != "":
		return noLogin(own.Code, said)
	case said != "":
		return chattyLogin(said)
	case ended || isProtocolError(s.err):
		return noSFTP(s.err)
	case s.err != nil:
		return s.err
	}
	return noSFTP(fmt.Errorf("it ended without an answer: %w", err))
}

// endSoon ends the subsystem after partingTime, unless the timer is stopped.
func (s *Client) endSoon() *time.Timer { return time.AfterFunc(partingTime, s.cancel) }

// Make says with which permissions the next request for this path makes a file or
// directory. The server applies its umask to them.
func (s *Client) Make(path string, mode fs.FileMode) { s.guard.make(path, mode) }

// OnClose has a function called when the client is closed.
func (s *Client) OnClose(call func()) { s.closed = call }

// Failure returns why the client itself has ended the subsystem, if it has: the server
// did not answer, or listed too much.
func (s *Client) Failure() error { return s.guard.err() }

// hasEnded reports whether the subsystem has ended.
func (s *Client) hasEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Close ends the subsystem, and returns its error if it has failed before.
func (s *Client) Close() error {
	defer s.closed()
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
	return exit.Hint(&nameless{err}, "For example:\n\n"+
		"  kubectl connpool cp FILE POOL:/DIRECTORY --container NAME    # a container of a Docker engine\n"+
		"  kubectl connpool cp POOL:/FILE . --pod NAME                  # a pod of a cluster")
}

// nameless says that only a container or pod has files there. The words of the refusal
// are about a field of the request, which the user has not typed.
type nameless struct{ refusal error }

// Error implements error.
func (*nameless) Error() string {
	return "the target is not a host: name the container with --container, or the pod with --pod"
}

// Unwrap returns the refusal.
func (n *nameless) Unwrap() error { return n.refusal }

// isProtocolError reports whether the server has no such subsystem.
func isProtocolError(err error) bool {
	failure, ok := errors.AsType[*client.Error](err)
	return ok && failure.Reason == v1alpha1.ReasonProtocolError
}

func noSFTP(err error) error {
	return exit.Hint(fmt.Errorf("sftp is not available on this target: %w", err),
		"Files are copied over the sftp subsystem. An sshd offers it by a line in its sshd_config:\n\n"+
			"  Subsystem sftp internal-sftp\n\n"+
			"If it does: can this account run commands at all? An expired password, or a login shell\n"+
			"such as nologin or false, ends every one. To see it: kubectl connpool exec POOL -- true")
}

// noLogin says that the account's login ended, and what it said, before sftp began.
func noLogin(code int, said string) error {
	return exit.Hint(fmt.Errorf("sftp did not start: the login ended with exit code %d, and said %q", code, said),
		"If that is about the account, nothing can run with it: its password may have expired, or its\n"+
			"login shell may be nologin. To see it: kubectl connpool exec POOL -- true\n\n"+
			"If not, the server's own sftp program is missing. A line in its sshd_config that needs none:\n\n"+
			"  Subsystem sftp internal-sftp")
}

// chattyLogin says that a login printed something into the stream of sftp.
func chattyLogin(said string) error {
	return exit.Hint(fmt.Errorf("sftp cannot start, because the login prints text before it: %q", said),
		"Files of the login such as .bashrc must print nothing without a terminal:\n\n"+
			"  [ -t 1 ] && echo Welcome\n\n"+
			"or sshd starts sftp without a login, by a line in its sshd_config:\n\n"+
			"  Subsystem sftp internal-sftp")
}
