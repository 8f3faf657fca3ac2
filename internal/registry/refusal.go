package registry

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// answer is an HTTP status with its word in the Kubernetes API.
type answer struct {
	code   int32
	reason metav1.StatusReason
}

var (
	badRequest      = answer{http.StatusBadRequest, metav1.StatusReasonBadRequest}
	conflict        = answer{http.StatusConflict, metav1.StatusReasonConflict}
	gone            = answer{http.StatusGone, metav1.StatusReasonGone}
	tooLarge        = answer{http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge}
	unknownMedia    = answer{http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType}
	tooManyRequests = answer{http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests}
	badGateway      = answer{http.StatusBadGateway, "BadGateway"}
	gatewayTimeout  = answer{http.StatusGatewayTimeout, metav1.StatusReasonTimeout}
	unavailable     = answer{http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable}
)

// refused is the error that answers a request in which nothing was started. It
// never says after which time to try again: clients would, by themselves, and
// send a command twice.
func refused(with answer, message string, causes ...metav1.StatusCause) *apierrors.StatusError {
	status := metav1.Status{Status: metav1.StatusFailure, Code: with.code, Reason: with.reason, Message: message}
	if len(causes) > 0 {
		status.Details = &metav1.StatusDetails{Causes: causes}
	}
	return &apierrors.StatusError{ErrStatus: status}
}

// refusedBeforeStart is refused for whom it matters that nothing ran: the causes
// say so, and give the reason if there is one.
func refusedBeforeStart(with answer, reason, message string) *apierrors.StatusError {
	return refusedWith(with, live.OutcomeNotStarted, reason, message)
}

// refusedAfterStart answers a request that may have reached its target.
func refusedAfterStart(with answer, reason, message string) *apierrors.StatusError {
	return refusedWith(with, live.OutcomeUnknown, reason, message)
}

func refusedWith(with answer, outcome live.Outcome, reason, message string) *apierrors.StatusError {
	causes := []metav1.StatusCause{{Type: live.CauseOutcome, Message: string(outcome)}}
	if reason != "" {
		causes = append(causes, metav1.StatusCause{Type: live.CauseReason, Message: reason})
	}
	return refused(with, message, causes...)
}

// invalid refuses a request with 400 and a cause for each field.
func invalid(problems field.ErrorList) error {
	causes := make([]metav1.StatusCause, 0, len(problems))
	for _, problem := range problems {
		causes = append(causes, metav1.StatusCause{
			Type: metav1.CauseType(problem.Type), Field: problem.Field, Message: problem.ErrorBody(),
		})
	}
	return refused(badRequest, problems.ToAggregate().Error(), causes...)
}

// notFound says that a declared object does not exist.
func notFound(resource, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: resource}, name)
}

// unreadable hides why an object could not be read.
func unreadable(what string) error {
	return refusedBeforeStart(unavailable, "", "the operator cannot read "+what+" now; try again")
}

// plain makes words of a request safe for a message or a log line.
func plain(words string) string { return driver.Sanitize(words) }

// list joins at most so many names.
func list(names []string, atMost int) string {
	if len(names) > atMost {
		names = append(append([]string{}, names[:atMost]...), "...")
	}
	return strings.Join(names, ", ")
}
