package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/connpool/connpool/internal/columns"
)

// titleOfStatus is the column whose cells are colored.
const titleOfStatus = "STATUS"

// poolColumns are those of kubectl get connectionpools, in their order. More of them are
// shown, because their figures are of this moment here.
var poolColumns = slices.Concat([]columns.Column[*poolReport]{
	columns.Text("Name", "Name of the pool", func(r *poolReport) string { return r.Name }),
	columns.Text("Type", "Protocol of its targets", func(r *poolReport) string { return r.Type }),
	columns.Text("Targets", "Targets of the pool", func(r *poolReport) string { return number(r.Targets.Total) }),
	columns.Text("Ready-Targets", "Targets that are ready", func(r *poolReport) string { return number(r.Targets.Ready) }),
	columns.Text("Warm", "Connections that can serve", func(r *poolReport) string { return number(r.Connections.Warm) }),
	columns.Text("In-Use", "Warm connections that carry a use", func(r *poolReport) string { return number(r.Connections.InUse) }),
	columns.Number("Uses", "Uses that have ended", func(r *poolReport) int64 { return r.UseCount }),
	columns.Ago("Oldest", "Age of the oldest connection", func(r *poolReport) *metav1.Time { return r.Oldest }),
	columns.Text("Ready", "Whether the pool can serve", func(r *poolReport) string { return readiness(r.Ready, r.Since) }),
	columns.Text("Status", "Why the pool is ready or not, and what else is wrong", func(r *poolReport) string { return r.Status }),
	columns.Ago("Age", "Time since the pool was created", func(r *poolReport) *metav1.Time { return r.Metadata.Created }),
}, columns.Wide(
	columns.Ago("Last-Used", "How long ago a use ended", func(r *poolReport) *metav1.Time { return r.LastUsed }),
	columns.Text("Desired", "Warm connections that the pool wants", func(r *poolReport) string { return number(r.Connections.Desired) }),
	columns.Text("Dialing", "Connections that are being made", func(r *poolReport) string { return number(r.Connections.Dialing) }),
	columns.Text("Draining", "Connections that will be closed", func(r *poolReport) string { return number(r.Connections.Draining) }),
	columns.Ago("Since", "How long the status has been what it is", func(r *poolReport) *metav1.Time { return r.Since }),
))

// targetColumns are those of kubectl get connectiontargets, in their order.
var targetColumns = slices.Concat([]columns.Column[*targetReport]{
	columns.Text("Name", "Name of the target", func(m *targetReport) string { return m.Name }),
	columns.Text("Type", "Protocol of the target", func(m *targetReport) string { return m.Type }),
	columns.Text("Endpoint", "Where the target is reached", func(m *targetReport) string { return m.Endpoint }),
	columns.Text("Warm", "Connections that can serve", func(m *targetReport) string { return number(m.Connections.Warm) }),
	columns.Text("In-Use", "Warm connections that carry a use", func(m *targetReport) string { return number(m.Connections.InUse) }),
	columns.Number("Uses", "Uses that have ended", func(m *targetReport) int64 { return m.UseCount }),
	columns.Ago("Oldest", "Age of the oldest connection", func(m *targetReport) *metav1.Time { return m.Oldest }),
	columns.Text("Ready", "Whether the target is ready", func(m *targetReport) string { return readiness(m.Ready, m.Since) }),
	columns.Text("Status", "Why the target is ready or not, and what else is wrong", func(m *targetReport) string { return m.Status }),
	columns.Ago("Age", "Time since the target was created", func(m *targetReport) *metav1.Time { return m.Created }),
}, columns.Wide(
	columns.Text("Server", "What the server calls itself", func(m *targetReport) string { return m.ServerVersion }),
	columns.Ago("Last-Used", "How long ago a use ended", func(m *targetReport) *metav1.Time { return m.LastUsed }),
	columns.Text("Replica", "Replica of the operator that holds it", func(m *targetReport) string { return m.Replica }),
	columns.Ago("Since", "How long the status has been what it is", func(m *targetReport) *metav1.Time { return m.Since }),
))

// readiness returns True or False, and nothing before the operator has looked.
func readiness(ready bool, since *metav1.Time) string {
	switch {
	case since == nil:
		return ""
	case ready:
		return "True"
	default:
		return "False"
	}
}
