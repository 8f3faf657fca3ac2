// Package stream puts a capability on the wire that stock Kubernetes clients
// speak: a command on the exec protocol, a forwarded port on the port-forward
// protocol.
package stream

import (
	"context"
	"net"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/internal/driver"
)

// ExecOptions says which streams a command has.
type ExecOptions struct {
	Stdin, Stdout, Stderr bool
	// TTY announces a terminal: sizes arrive on resize, and there is no stderr.
	TTY bool
}

// RunFunc runs the command behind the streams and says how it ended; its
// result is never nil. It is called once, after the upgrade is complete. ctx
// ends when the client is gone or when the request's own context ends.
type RunFunc func(ctx context.Context, streams driver.Streams, resize <-chan driver.WindowSize) *metav1.Status

// DialFunc connects to a port of the target.
type DialFunc func(ctx context.Context, port uint16) (net.Conn, error)

// ServeExec answers a request to run a command.
func ServeExec(w http.ResponseWriter, _ *http.Request, _ ExecOptions, _ RunFunc) {
	http.Error(w, "not served yet", http.StatusNotImplemented)
}

// ServePortForward answers a request to forward ports.
func ServePortForward(w http.ResponseWriter, _ *http.Request, _ DialFunc) {
	http.Error(w, "not served yet", http.StatusNotImplemented)
}
