package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/exec"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// The outcomes of a command that is not known to have ended, for errors.Is.
var (
	// ErrNotStarted means that the command has not run. It is safe to try again.
	ErrNotStarted = errors.New("the command was not started")
	// ErrUnknown means that the command may have run.
	ErrUnknown = errors.New("the command may have run")
)

var (
	_ exec.ExitError = (*ExitError)(nil)
	_ error          = (*Error)(nil)
)

// Error is a command, or a forwarded connection, that is not known to have
// ended. It is either ErrNotStarted or ErrUnknown. If the API refused the
// request, the apierrors functions (IsForbidden, IsNotFound, IsTooManyRequests)
// report why.
type Error struct {
	// Outcome is NotStarted or Unknown.
	Outcome live.Outcome
	// Reason is one word: a reason that conditions have too, or that of the API's
	// refusal. It is empty if no server gave one.
	Reason string
	// Message is the reason in one sentence.
	Message string
	// RequestID is the ID in the operator's audit lines, if it is known.
	RequestID string
	// Err is the cause; nil if Message is all that is known.
	Err error
}

// Error implements error. It has the outcome, the message and the request ID.
func (e *Error) Error() string {
	text := ErrUnknown.Error()
	if e.Outcome == live.OutcomeNotStarted {
		text = ErrNotStarted.Error()
	}
	switch {
	case strings.Contains(e.Message, e.said()): // the server says the same
		text = e.Message
	case e.Message != "":
		text += ": " + e.Message
	}
	if e.RequestID != "" && !strings.Contains(text, e.RequestID) {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// said returns the words by which the operator's own messages say the outcome.
func (e *Error) said() string {
	if e.Outcome == live.OutcomeNotStarted {
		return "was not started"
	}
	return "may have run"
}

// Is reports whether target is ErrNotStarted or ErrUnknown, by the outcome.
func (e *Error) Is(target error) bool {
	if e.Outcome == live.OutcomeNotStarted {
		return target == ErrNotStarted
	}
	return target == ErrUnknown
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ExitError is a command that has ended with an exit code other than 0. It is
// also an ExitError of k8s.io/utils/exec.
type ExitError struct {
	// Code is the exit code, or 128 plus the number of the signal that ended it.
	Code int
	// Signal ended the command. It is a name without SIG, or empty.
	Signal string
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "ended by signal " + e.Signal
	}
	return "exit status " + strconv.Itoa(e.Code)
}

// String returns Error, for k8s.io/utils/exec.
func (e *ExitError) String() string { return e.Error() }

// ExitCode returns Code, as in os/exec.
func (e *ExitError) ExitCode() int { return e.Code }

// ExitStatus returns Code, as in k8s.io/utils/exec.
func (e *ExitError) ExitStatus() int { return e.Code }

// Exited reports whether the command ended by itself, and not by a signal.
func (e *ExitError) Exited() bool { return e.Signal == "" }

// notStarted is a failure before anything was sent.
func notStarted(err error) *Error {
	return &Error{Outcome: live.OutcomeNotStarted, Message: wordsOf(err), Err: err}
}

// unknown is a failure after the command may have been sent.
func unknown(err error) *Error {
	return &Error{Outcome: live.OutcomeUnknown, Message: wordsOf(err), Err: err}
}

// wordsOf returns what an error says. The words of contexts are none for people, who
// read them at the end of a command.
func wordsOf(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "the caller has canceled it"
	case errors.Is(err, context.DeadlineExceeded):
		return "the caller's deadline has passed"
	}
	return err.Error()
}

// refused classifies the API's refusal of a command. The outcome is what the API
// says it is. Without that, an API server's refusal means that nothing was
// started, while that of a proxy may be about an answer that the proxy lost.
func refused(refusal *refusalError) *Error {
	causes := causesOf(&refusal.ErrStatus)
	e := &Error{
		Outcome: live.Outcome(causes[live.CauseOutcome]), Reason: causes[live.CauseReason],
		RequestID: causes[live.CauseRequestID], Message: refusal.Error(), Err: refusal.StatusError,
	}
	if e.Reason == "" && refusal.structured {
		e.Reason = string(refusal.ErrStatus.Reason)
	}
	if e.Outcome == "" && refusal.beforeStart() {
		e.Outcome = live.OutcomeNotStarted
	}
	if e.Outcome != live.OutcomeNotStarted {
		e.Outcome = live.OutcomeUnknown
	}
	return e
}

// refusalError is an answer that is not a success.
type refusalError struct {
	*apierrors.StatusError

	code int
	// structured means that the answer was a Status: it comes from an API server, and
	// not from a proxy.
	structured bool
}

// beforeStart reports whether the answer proves that no command was started.
func (r *refusalError) beforeStart() bool {
	switch {
	case r.code >= http.StatusMultipleChoices && r.code < http.StatusInternalServerError:
		return true
	case r.code != http.StatusServiceUnavailable:
		return false
	case r.structured:
		return true
	}
	return neverForwarded(r.ErrStatus.Message)
}

// neverForwarded reports whether kube-apiserver says that it did not reach the live
// API: there was no endpoint, or no connection. Its other messages are about a
// connection that broke, behind which the command may still run.
func neverForwarded(message string) bool {
	return message == "service unavailable" ||
		strings.HasPrefix(message, "dial tcp") ||
		strings.HasPrefix(message, "error dialing backend: ")
}

// readRefusal reads an answer that is not a success.
func readRefusal(response *http.Response) *refusalError {
	// What could be read is more useful than the error of the rest.
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	r := &refusalError{code: response.StatusCode}
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure {
		r.structured, r.StatusError = true, &apierrors.StatusError{ErrStatus: status}
		return r
	}
	message := strings.TrimSpace(string(body))
	if begun := beginningOfStatus(body); begun != "" {
		r.structured, message = true, begun
	}
	r.StatusError = plainRefusal(response.StatusCode, message)
	return r
}

// beginningOfStatus returns the message of a Status that was cut off, or what there
// is of it: the WebSocket library keeps the first 1,024 bytes of the answer to a
// refused upgrade.
func beginningOfStatus(body []byte) string {
	head, rest, found := bytes.Cut(body, []byte(`"message":"`))
	if !found || !bytes.Contains(head, []byte(`"kind":"Status"`)) {
		return ""
	}
	decoder := json.NewDecoder(io.MultiReader(strings.NewReader(`"`), bytes.NewReader(rest), strings.NewReader(`..."`)))
	var message string
	if decoder.Decode(&message) != nil {
		return "the server's message is too long"
	}
	return message
}

// plainRefusal makes an error of an answer's code, with its body as the message.
func plainRefusal(code int, message string) *apierrors.StatusError {
	err := apierrors.NewGenericServerResponse(code, "", schema.GroupResource{Group: live.GroupName}, "", "", 0, true)
	err.ErrStatus.Message = cmp.Or(message, fmt.Sprintf("the server answered %d %s", code, http.StatusText(code)))
	return err
}
