package logs

import (
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/go-logr/logr"
)

// Capture makes lines of the log of what libraries write to the standard logger and to
// os.Stderr: HTTP servers do so, and those of k8s.io/apiserver cannot be given another
// writer. Call it once, when the logger itself has got hold of os.Stderr. The trace with
// which a program dies is not captured.
func Capture(logger logr.Logger) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("capture what libraries print: %w", err)
	}
	printed := lines{logger.WithName("http")}
	log.SetFlags(0)
	log.SetOutput(printed)
	os.Stderr = write
	go func() { _, _ = io.Copy(printed, read) }()
	return nil
}

// lines writes each text that is written to it as one line.
type lines struct{ logger logr.Logger }

// byClients are how lines of HTTP servers begin about what a client did wrong. It is told
// so, or has gone.
var byClients = []string{
	"http: TLS handshake error", "http2: server: error reading preface", "http2: server connection error",
	"http2: server closing client connection", "http: URL query contains semicolon",
}

// Write implements io.Writer. What is not known to be by clients stays together, such as
// a message and a stack trace.
func (l lines) Write(text []byte) (int, error) {
	var rest strings.Builder
	for line := range strings.Lines(string(text)) {
		if startsWithOneOf(line, byClients) {
			l.logger.V(debug).Info(strings.TrimSpace(line))
		} else {
			rest.WriteString(line)
		}
	}
	if message := strings.TrimSpace(rest.String()); message != "" {
		l.logger.Error(nil, message)
	}
	return len(text), nil
}
