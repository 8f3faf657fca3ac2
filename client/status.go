package client

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// statusResult adds the Status at the end of a stream to the result.
func statusResult(result Result, status *metav1.Status) (Result, error) {
	causes := causesOf(status)
	result.Signal = causes[live.CauseSignal]
	for cause, field := range map[metav1.CauseType]*string{
		live.CauseTarget: &result.Target, live.CauseConnection: &result.Connection, live.CauseRequestID: &result.RequestID,
	} {
		if value, ok := causes[cause]; ok {
			*field = value
		}
	}
	if acquired, ok := causes[live.CauseAcquired]; ok {
		result.Acquired = live.Acquired(acquired)
	}
	result.Wait = microseconds(number(causes[live.CauseAcquireMicroseconds], 0))
	result.Duration = microseconds(number(causes[live.CauseDurationMicroseconds], 0))
	outcome := outcomeOf(status, causes)
	if outcome == live.OutcomeCompleted {
		result.ExitCode = exitCode(status, causes)
	}
	return result, result.err(outcome, causes[live.CauseReason], status.Message)
}

func causesOf(status *metav1.Status) map[metav1.CauseType]string {
	causes := map[metav1.CauseType]string{}
	if status.Details == nil {
		return causes
	}
	for _, cause := range status.Details.Causes {
		causes[cause.Type] = cause.Message
	}
	return causes
}

// outcomeOf returns the outcome that the operator added to the Status. For another
// server it concludes the outcome from the Status of the exec protocol.
func outcomeOf(status *metav1.Status, causes map[metav1.CauseType]string) live.Outcome {
	if outcome, ok := causes[live.CauseOutcome]; ok {
		return live.Outcome(outcome)
	}
	if status.Status == metav1.StatusSuccess || status.Reason == remotecommand.NonZeroExitCodeReason {
		return live.OutcomeCompleted
	}
	return live.OutcomeUnknown
}

func exitCode(status *metav1.Status, causes map[metav1.CauseType]string) int {
	if status.Status == metav1.StatusSuccess {
		return 0
	}
	return int(number(causes[remotecommand.ExitCodeCauseType], -1))
}

func number(text string, otherwise int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}
