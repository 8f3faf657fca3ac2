// Package refusal makes the errors that answer requests of the live API: an HTTP status,
// one sentence with the next step, and causes for programs.
//
//	return refusal.NotStarted(refusal.Unavailable, "", "the pool is gone; try again")
//	return refusal.Invalid(problems) // 400, with a cause for each field
//
// The sentences are worded where a request is refused: those for a lease in refusals.go
// of package use, those of one kind of request in its own package.
//
// Trade-offs: no refusal has a Retry-After. Clients would send the request again on their
// own, and a command would run twice.
package refusal

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

// Answer is an HTTP status with its reason in the Kubernetes API.
type Answer struct {
	code   int32
	reason metav1.StatusReason
}

// Answers that refuse a request.
var (
	BadRequest      = Answer{http.StatusBadRequest, metav1.StatusReasonBadRequest}
	NotFound        = Answer{http.StatusNotFound, metav1.StatusReasonNotFound}
	Conflict        = Answer{http.StatusConflict, metav1.StatusReasonConflict}
	Gone            = Answer{http.StatusGone, metav1.StatusReasonGone}
	TooLarge        = Answer{http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge}
	UnknownMedia    = Answer{http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType}
	TooManyRequests = Answer{http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests}
	BadGateway      = Answer{http.StatusBadGateway, "BadGateway"}
	GatewayTimeout  = Answer{http.StatusGatewayTimeout, metav1.StatusReasonTimeout}
	Unavailable     = Answer{http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable}
)

// New returns the error that answers a request in which nothing was started.
func New(with Answer, message string, causes ...metav1.StatusCause) *apierrors.StatusError {
	status := metav1.Status{Status: metav1.StatusFailure, Code: with.code, Reason: with.reason, Message: message}
	if len(causes) > 0 {
		status.Details = &metav1.StatusDetails{Causes: causes}
	}
	return &apierrors.StatusError{ErrStatus: status}
}

// NotStarted refuses like New, with causes that say that nothing ran, and why.
func NotStarted(with Answer, reason, message string) *apierrors.StatusError {
	return withOutcome(with, live.OutcomeNotStarted, reason, message)
}

// Unknown answers a request that may have reached its target.
func Unknown(with Answer, reason, message string) *apierrors.StatusError {
	return withOutcome(with, live.OutcomeUnknown, reason, message)
}

func withOutcome(with Answer, outcome live.Outcome, reason, message string) *apierrors.StatusError {
	causes := []metav1.StatusCause{{Type: live.CauseOutcome, Message: string(outcome)}}
	if reason != "" {
		causes = append(causes, metav1.StatusCause{Type: live.CauseReason, Message: reason})
	}
	return New(with, message, causes...)
}

// Invalid refuses a request with 400 and a cause for each field.
func Invalid(problems field.ErrorList) *apierrors.StatusError {
	causes := make([]metav1.StatusCause, 0, len(problems))
	for _, problem := range problems {
		causes = append(causes, metav1.StatusCause{
			Type: metav1.CauseType(problem.Type), Field: problem.Field, Message: problem.ErrorBody(),
		})
	}
	return New(BadRequest, wordsOf(problems), causes...)
}

// wordsOf writes problems for a person. Each is said once.
func wordsOf(problems field.ErrorList) string {
	var sentences []string
	for _, problem := range problems {
		if words := sentenceOf(problem); !slices.Contains(sentences, words) {
			sentences = append(sentences, words)
		}
	}
	return strings.Join(sentences, "; ")
}

// sentenceOf names the field where the detail does not.
func sentenceOf(problem *field.Error) string {
	subject := problem.Field
	if word, ok := problem.BadValue.(string); ok && word != "" {
		subject += fmt.Sprintf(" %q", word)
	}
	if number, ok := problem.BadValue.(int32); ok {
		subject += fmt.Sprintf(" %d", number)
	}
	switch problem.Type { //nolint:exhaustive // the others are sentences already
	case field.ErrorTypeRequired:
		return problem.Detail
	case field.ErrorTypeForbidden:
		name := problem.Field[strings.LastIndex(problem.Field, ".")+1:]
		if strings.Contains(problem.Detail, name) {
			return problem.Detail
		}
	case field.ErrorTypeNotSupported:
		return fmt.Sprintf("%s %q is unknown; %s", problem.Field, fmt.Sprint(problem.BadValue), problem.Detail)
	case field.ErrorTypeDuplicate:
		return subject + " is given twice"
	case field.ErrorTypeTooLong, field.ErrorTypeTooMany:
		return problem.Field + ": " + problem.Detail
	}
	if strings.HasPrefix(problem.Detail, "must ") || strings.HasPrefix(problem.Detail, "is ") {
		return subject + " " + problem.Detail
	}
	return subject + ": " + problem.Detail
}

// Unread refuses because of a declared object that could not be read: with 404 if it does
// not exist, else with 503. what names it in a sentence.
func Unread(err error, resource, name, what string) *apierrors.StatusError {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(v1alpha1.Resource(resource), name)
	}
	return NotStarted(Unavailable, "", "the operator cannot read "+what+" now; try again")
}

// List joins at most so many names.
func List(names []string, atMost int) string {
	if len(names) > atMost {
		names = append(append([]string{}, names[:atMost]...), "...")
	}
	return strings.Join(names, ", ")
}

// RunAdmission runs the admission of a request that acts at once, which has no dry run.
func RunAdmission(ctx context.Context, object runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) error {
	if options != nil && len(options.DryRun) > 0 {
		return New(BadRequest, "dryRun is not supported: the outcome cannot be known without doing it")
	}
	if validate == nil {
		return nil
	}
	return validate(ctx, object)
}
