package use

import (
	"cmp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/internal/connpool"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
	"github.com/connpool/connpool/internal/tracing"
)

// spanNames are the names of the spans of uses, and runningNames those of what they do on
// their connections, by subresource.
var (
	spanNames    = map[string]string{"exec": "connpool.exec", "proxy": "connpool.proxy", "portforward": "connpool.portforward"}
	runningNames = map[string]string{"exec": "connpool.command", "proxy": "connpool.request", "portforward": "connpool.forward"}
)

// EndSpan ends the span of the use, with what is known by now.
func (u *Use) EndSpan() {
	if u.Span == nil {
		return
	}
	for _, fact := range [][2]string{
		{"k8s.namespace.name", u.PoolName.Namespace},
		{"connpool.pool", u.PoolName.Name},
		{"connpool.target", u.Target},
		{"connpool.session", u.Session},
		{"connpool.request_id", u.RequestID},
		{"connpool.transport", u.Transport},
		{"http.request.method", u.Method},
	} {
		u.Span.Set(fact[0], driver.Sanitize(fact[1]))
	}
	u.Span.End()
}

// traceAcquired ends the span of a wait for a lease, with the dial that was waited for.
func traceAcquired(span *tracing.Span, lease poolset.Lease) {
	if span == nil {
		return
	}
	span.Set("connpool.target", lease.Target.Name)
	span.Set("connpool.acquired", lease.How().String())
	if passages := lease.Lease.Conn().Dialing.Passages(); lease.How() == connpool.Dialed && len(passages) > 0 {
		dial := span.Past("connpool.dial", passages[0].From, passages[len(passages)-1].To)
		for _, passage := range passages {
			dial.Past("connpool.dial."+passage.Word(), passage.From, passage.To)
		}
	}
	span.End()
}

// traceRefused ends the span of a wait for a lease that there is not.
func traceRefused(span *tracing.Span, err error) {
	if span == nil {
		return
	}
	span.Fail(refusedBecause(err))
	if classified, ok := driver.Classified(err); ok {
		span.Set("connpool.stage", string(classified.Stage))
	}
	span.End()
}

// refusedBecause returns the reason of a refusal in one word.
func refusedBecause(err error) string {
	reason := reasonIn(err)
	if classified, ok := driver.Classified(err); ok {
		reason = classified.Reason
	}
	return cmp.Or(string(reason), string(apierrors.ReasonForError(err)), "Unknown")
}

// traceEnded ends the span of what the use did on its connection. If that did not complete,
// the span of the use says so, too: it is the one that lists of traces show.
func (u *Use) traceEnded(r *Result) {
	if u.running == nil {
		return
	}
	u.running.Set("connpool.target", r.Lease.Target)
	u.running.Set("connpool.connection", r.Lease.Connection)
	u.running.Set("connpool.outcome", string(r.Outcome))
	switch {
	case r.HTTPStatus != 0:
		u.running.SetInt("http.response.status_code", r.HTTPStatus)
	case r.Completed():
		u.running.SetInt("process.exit.code", r.Code)
	}
	if r.Reason != "" {
		u.running.Fail(r.Reason)
		u.Span.Fail(r.Reason)
	}
	u.running.End()
}
