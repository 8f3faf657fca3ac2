package client

import (
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

func TestAnErrorSaysTheOutcomeAndTheRequestOnce(t *testing.T) {
	tests := map[string]struct {
		err  Error
		want string
	}{
		"no message": {Error{Outcome: live.OutcomeUnknown}, "the command may have run"},
		"a message of the client": {
			Error{Outcome: live.OutcomeUnknown, Message: "it broke", RequestID: "r-1"},
			"the command may have run: it broke (request r-1)",
		},
		"a message of the operator": {
			Error{
				Outcome: live.OutcomeUnknown, RequestID: "r-1",
				Message: "the command of request r-1 may have run, and its outcome is not known: it broke",
			},
			"the command of request r-1 may have run, and its outcome is not known: it broke",
		},
		"not started, says the operator": {
			Error{Outcome: live.OutcomeNotStarted, Message: "the command was not started: no room", RequestID: "r-1"},
			"the command was not started: no room (request r-1)",
		},
		"not started, says the client": {
			Error{Outcome: live.OutcomeNotStarted, Message: "no route"}, "the command was not started: no route",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := test.err.Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
