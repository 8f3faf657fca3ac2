package filesystem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/pkg/sftp"

	"github.com/connpool/connpool/client"
)

// Explain words an error of a file system, if there is one, without repeating the
// name and the system call.
func Explain(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q does not exist", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%q: permission denied", name)
	case IsLost(err):
		return err // it is not about the file
	case isUnexplained(err):
		return fmt.Errorf("%q: the server failed and does not say why, as OpenSSH does when the disk is full; "+
			"look with df on the target, and in the server's log", name)
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	if inner, ok := errors.AsType[*os.LinkError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("%q: %w", name, err)
}

// isUnexplained reports whether an sftp server failed without a word of its own. The protocol
// has no code for a full disk.
func isUnexplained(err error) bool {
	status, ok := errors.AsType[*sftp.StatusError](err)
	if !ok || status.FxCode() != sftp.ErrSSHFxFailure {
		return false
	}
	said := status.Error()
	return strings.Contains(said, `"Failure"`) || strings.Contains(said, `""`)
}

// IsRefusal reports whether a file system does not do something that others do: it
// is not permitted, or it is not offered.
func IsRefusal(err error) bool {
	status, ok := errors.AsType[*sftp.StatusError](err)
	return errors.Is(err, fs.ErrPermission) || ok && status.FxCode() == sftp.ErrSSHFxOpUnsupported
}

// ReasonOf returns the words for a refusal.
func ReasonOf(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "permission denied"
	}
	return err.Error()
}

// ExplainMaking words an error of a new file in a directory.
func ExplainMaking(directory string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("no file can be made in the directory %q: permission denied", directory)
	}
	return Explain(directory, err)
}

// ExplainWriting words an error of a file that exists.
func ExplainWriting(name string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%q exists, but cannot be written to: permission denied", name)
	}
	return Explain(name, err)
}

// IsConnectionLost reports whether an error says that the stream to a server has ended.
func IsConnectionLost(err error) bool {
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.ErrClosedPipe)
}

// IsLost reports whether a command in a container or pod could not run to its end.
func IsLost(err error) bool {
	_, ok := errors.AsType[*client.Error](err)
	return ok
}
