package kube

import (
	"errors"
	"net/http"
	"testing"
)

// An API server that passes WebSockets on to kubelets answers 500 also if it could not
// read the kubelet's answer. The kubelet may run the command by then.
func TestAnInternalErrorProvesOnlyWhatItSays(t *testing.T) {
	said := func(message string) string {
		return `{"kind":"Status","status":"Failure","message":"` + message + `","code":500}`
	}
	tests := map[string]struct {
		body    string
		started bool
	}{
		"the kubelet's answer ended":           {said("EOF"), true},
		"the kubelet's answer was cut":         {said("unexpected EOF"), true},
		"the way to the kubelet was reset":     {said("read tcp 10.0.0.1:40000->10.0.0.2:10250: read: connection reset by peer"), true},
		"the request was cut":                  {said("error sending request: write tcp 10.0.0.1:1->10.0.0.2:10250: broken pipe"), true},
		"the words of a gateway":               {"<html>Internal Server Error</html>", true},
		"an admission webhook does not answer": {said("Internal error occurred: failed calling webhook: EOF"), false},
		"another word of Kubernetes":           {said("because"), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			refused := &answer{status: http.StatusInternalServerError, body: []byte(tc.body)}
			if got := mayHaveStarted(refused); got != tc.started {
				t.Errorf("it may have started: %t", got)
			}
		})
	}
}

func TestOnlyAPromiseProvesThatARequestWasNotLookedAt(t *testing.T) {
	const cannot = "] after Request.Body was written; define Request.GetBody to avoid this error"
	tests := map[string]struct {
		err      string
		promised bool
	}{
		"sent elsewhere":           {"http2: Transport: cannot retry err [http2: Transport received Server's graceful shutdown GOAWAY" + cannot, true},
		"refused":                  {"http2: Transport: cannot retry err [stream error: stream ID 3; REFUSED_STREAM; received from peer" + cannot, true},
		"a breach of the protocol": {"http2: Transport: cannot retry err [stream error: stream ID 3; PROTOCOL_ERROR; received from peer" + cannot, false},
		"an end":                   {"unexpected EOF", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := notLookedAt(errors.New(tc.err)); got != tc.promised {
				t.Errorf("promised: %t", got)
			}
		})
	}
}
