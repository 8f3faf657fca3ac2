package fanout

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/delivery"
)

// LineOf returns the kind of a line, as every line begins.
func LineOf(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: kind}
}

// Answer is the lines that a client gets. A line that the client does not take makes those
// wait that send others, and so the command starts on no more targets. It is safe for
// concurrent use.
type Answer struct {
	writer     http.ResponseWriter
	controller *http.ResponseController
	delivery   *delivery.Delivery
	// waiting is how many lines wait to be sent, and turn has room for the one that is.
	waiting atomic.Int32
	turn    chan struct{}
	err     error // of the line before; only the one that is sent uses it

	mu      sync.Mutex // guards what follows
	summary live.ExecSummary
	closed  bool // the writer must not be used any more
}

// NewAnswer begins an answer.
func NewAnswer(w http.ResponseWriter, d *delivery.Delivery) *Answer {
	w.Header().Set("Content-Type", live.ExecLines)
	w.WriteHeader(http.StatusOK)
	return &Answer{
		writer: w, controller: http.NewResponseController(w), delivery: d, turn: make(chan struct{}, 1),
		summary: live.ExecSummary{ExitCodes: map[string]int32{}},
	}
}

// Send sends a line. It is flushed unless another one waits to be sent, which is then
// flushed with it.
func (a *Answer) Send(line []byte) error {
	a.waiting.Add(1)
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	last := a.waiting.Add(-1) == 0
	if a.err != nil {
		return a.err
	}
	a.delivery.Offered()
	defer a.delivery.Taken()
	if _, a.err = a.writer.Write(line); a.err == nil && last {
		a.err = a.controller.Flush()
	}
	return a.err
}

// Result sends the line of a result, and counts it.
func (a *Answer) Result(status *live.ExecStatus, line []byte) error {
	a.count(status)
	return a.Send(line)
}

func (a *Answer) count(status *live.ExecStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.summary.Targets++
	switch status.Outcome {
	case live.OutcomeNotStarted:
		a.summary.NotStarted++
	case live.OutcomeUnknown:
		a.summary.Unknown++
	case live.OutcomeCompleted:
		a.summary.Completed++
		if status.ExitCode != nil {
			a.summary.ExitCodes[strconv.Itoa(int(*status.ExitCode))]++
		}
	}
}

// Summary returns what was counted, once all results are sent.
func (a *Answer) Summary() live.ExecSummary {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.summary
}

// Within lets the client have that long to take the rest of the answer. Without a client
// that is on its way over a network, and once the answer is closed, it does nothing.
func (a *Answer) Within(patience time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	_ = a.controller.SetWriteDeadline(time.Now().Add(patience))
}

// Close ends the answer before its handler returns, after which HTTP/2 panics if a writer is
// used. It removes the deadline, which must not stay for the next request on the connection.
// What is cut stays cut.
func (a *Answer) Close() {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.err == nil {
		_ = a.controller.SetWriteDeadline(time.Time{})
	}
}
