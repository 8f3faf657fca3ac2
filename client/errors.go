package client

import (
	"bytes"
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

// The two outcomes of a command that is not known to have ended, for errors.Is.
var (
	// ErrNotStarted says that the command is proved not to have run. It is safe to
	// try again.
	ErrNotStarted = errors.New("the command was not started")
	// ErrUnknown says that the command may have run.
	ErrUnknown = errors.New("the command may have run")
)

var (
	_ exec.ExitError = (*ExitError)(nil)
	_ error          = (*Error)(nil)
)

// Error is a command, or a forwarded connection, that is not known to have
// ended. It is either ErrNotStarted or ErrUnknown. If the API refused the
// request, the apierrors functions (IsForbidden, IsNotFound, IsTooManyRequests)
// tell why.
type Error struct {
	// Outcome is NotStarted or Unknown.
	Outcome live.Outcome
	// Reason is one word: the same as in conditions, or the reason of the API's
	// refusal. It is empty where no server gave one.
	Reason string
	// Message says why in one sentence.
	Message string
	// RequestID under which the operator's audit lines tell of it, if it is known.
	RequestID string
	// Err is the cause, if there is one besides Message.
	Err error
}

// Error tells the outcome and why.
func (e *Error) Error() string {
	text := ErrUnknown.Error()
	if e.Outcome == live.OutcomeNotStarted {
		text = ErrNotStarted.Error()
	}
	switch {
	case strings.HasPrefix(e.Message, text): // the server's words for the same
		text = e.Message
	case e.Message != "":
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Is makes every Error either ErrNotStarted or ErrUnknown.
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
	// Code is the exit code; 128 plus the signal's number if one ended it.
	Code int
	// Signal that ended the command, without SIG; empty if none did.
	Signal string
}

// Error tells how the command ended.
func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "ended by signal " + e.Signal
	}
	return "exit status " + strconv.Itoa(e.Code)
}

// String is Error.
func (e *ExitError) String() string { return e.Error() }

// ExitCode is Code, as in os/exec.
func (e *ExitError) ExitCode() int { return e.Code }

// ExitStatus is Code, as in k8s.io/utils/exec.
func (e *ExitError) ExitStatus() int { return e.Code }

// Exited reports that the command ended by itself, and not by a signal.
func (e *ExitError) Exited() bool { return e.Signal == "" }

// notStarted is an error of our own making, before anything was sent.
func notStarted(err error) *Error {
	return &Error{Outcome: live.OutcomeNotStarted, Message: err.Error(), Err: err}
}

// unknown is what a command is that was handed over and of which the rest was
// not heard.
func unknown(err error) *Error {
	return &Error{Outcome: live.OutcomeUnknown, Message: err.Error(), Err: err}
}

// refused classifies the API's refusal of a command. What the API says of the
// outcome counts; and what an API server refuses it has not started. What a proxy
// says may be about an answer that it lost.
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
	// structured says that the answer was a Status, so that an API server made it
	// and no proxy did.
	structured bool
}

// beforeStart reports that this answer proves that no command was started.
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

// neverForwarded knows kube-apiserver's words for an API that it has not
// reached: there is no endpoint, or it refused the connection. Its other words
// are about a connection that broke, and a command may run on behind it.
func neverForwarded(message string) bool {
	return message == "service unavailable" ||
		strings.HasPrefix(message, "dial tcp") ||
		strings.HasPrefix(message, "error dialing backend: ")
}

// refusal reads an answer that is not a success; nil if it is one.
func refusal(response *http.Response) *refusalError {
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusMultipleChoices {
		return nil
	}
	return readRefusal(response)
}

func readRefusal(response *http.Response) *refusalError {
	// Whatever could be read tells more than why the rest could not.
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

// beginningOfStatus finds the message in a Status that was cut off: of the
// answer to a refused upgrade, the WebSocket library keeps the first 1,024
// bytes. If the message itself was cut, it is as long as it got.
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

// plainRefusal is what the code alone says, with the body as the message.
func plainRefusal(code int, message string) *apierrors.StatusError {
	err := apierrors.NewGenericServerResponse(code, "", schema.GroupResource{Group: live.GroupName}, "", "", 0, true)
	err.ErrStatus.Message = message
	if message == "" {
		err.ErrStatus.Message = fmt.Sprintf("the server answered %d %s", code, http.StatusText(code))
	}
	return err
}
