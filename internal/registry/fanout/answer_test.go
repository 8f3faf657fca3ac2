package fanout

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/delivery"
	"github.com/connpool/connpool/internal/registry/quota"
)

// The permission can be lost, or the client leave, at the moment at which the answer ends.
func TestADeadlineThatComesAfterTheAnswerIsNone(t *testing.T) {
	var deliveries delivery.Deliveries
	answers := make(chan *Answer, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		d := deliveries.Begin(quota.Owner{}, func() {})
		defer d.Close()
		answer := NewAnswer(w, d)
		if err := answer.Result(&live.ExecStatus{Outcome: live.OutcomeUnknown}, []byte("{}\n")); err != nil {
			t.Error(err)
		}
		answer.Close()
		answers <- answer
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "{}\n" || response.ProtoMajor != 2 {
		t.Errorf("answered %q over %s: %v", text, response.Proto, err)
	}
	server.CloseClientConnections() // the handler has returned then
	answer := <-answers
	answer.Within(time.Second)
	if got := answer.Summary(); got.Unknown != 1 || got.Targets != 1 {
		t.Errorf("the summary is %+v", got)
	}
}
