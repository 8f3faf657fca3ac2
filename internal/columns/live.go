package columns

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Connections are the columns of connections.
var Connections = slices.Concat([]Column[*live.Connection]{
	Text("Name", "Name of the connection", func(c *live.Connection) string { return c.Name }),
	Text("Pool", "Pool that the connection belongs to", func(c *live.Connection) string { return c.Pool }),
	Text("Target", "Target that it leads to", func(c *live.Connection) string { return c.Target }),
	Text("Type", "Protocol of the target", func(c *live.Connection) string { return c.Type }),
	Text("State", "Idle, InUse or Draining", func(c *live.Connection) string { return string(c.State) }),
	Number("In-Use", "Uses that run on it now", func(c *live.Connection) int64 { return int64(c.InUse) }),
	Number("Uses", "Uses that have ended", func(c *live.Connection) int64 { return c.UseCount }),
	Ago("Idle", "How long it has been unused", idleSince),
	roundTrip,
	Ago("Age", "How long ago it was made", func(c *live.Connection) *metav1.Time { return &c.CreationTimestamp }),
}, Wide(
	Text("Address", "Address that it leads to", func(c *live.Connection) string { return c.RemoteAddress }),
	Text("Server", "What the server calls itself", func(c *live.Connection) string { return c.ServerVersion }),
	Text("Handshake", "How long it took to make the connection", func(c *live.Connection) string {
		return latency(c.HandshakeMicroseconds)
	}),
	Text("Saved", "Time that its uses did not spend on handshakes", func(c *live.Connection) string {
		return latency((c.UseCount + int64(c.InUse)) * c.HandshakeMicroseconds)
	}),
	Text("Replica", "Replica of the operator that holds it", func(c *live.Connection) string { return c.Replica }),
))

var roundTrip = Column[*live.Connection]{
	Name: "RTT", Description: "How long the newest keepalive took to be answered", Fleeting: true,
	Cell: func(c *live.Connection, _ time.Time) any { return latency(c.RoundTripMicroseconds) },
}

// idleSince returns nil for a connection that is not idle.
func idleSince(c *live.Connection) *metav1.Time {
	if c.State != live.ConnectionIdle {
		return nil
	}
	return cmp.Or(c.LastUsedTime, &c.CreationTimestamp)
}

// Sessions are the columns of sessions.
var Sessions = slices.Concat([]Column[*live.Session]{
	Text("Name", "Name of the session", func(s *live.Session) string { return s.Name }),
	Text("Pool", "Pool whose connection it uses", func(s *live.Session) string { return s.Spec.Pool }),
	Text("Target", "Target on which its shell runs", func(s *live.Session) string { return cmp.Or(s.Status.Target, s.Spec.Target) }),
	Text("State", "Ready, Busy, or Ended and the reason", stateOf),
	Text("Owner", "Who created it, and who alone may use it", func(s *live.Session) string { return s.Status.Owner }),
	Number("Commands", "Commands that have been run in it", func(s *live.Session) int64 { return s.Status.CommandCount }),
	Ago("Last-Used", "How long ago a command ended", func(s *live.Session) *metav1.Time { return s.Status.LastUsedTime }),
	expires,
	Ago("Age", "How long ago it was created", func(s *live.Session) *metav1.Time { return &s.CreationTimestamp }),
}, Wide(
	Text("Place", "Container or pod in which its shell runs", placeOf),
	Text("Connection", "Connection that it uses", func(s *live.Session) string { return s.Status.Connection }),
	Text("Message", "Why it ended, and the next step", func(s *live.Session) string { return s.Status.Message }),
))

func stateOf(s *live.Session) string {
	if s.Status.Reason == "" {
		return string(s.Status.State)
	}
	return string(s.Status.State) + ": " + s.Status.Reason
}

var expires = Column[*live.Session]{
	Name: "Expires", Description: "When it ends, whatever it does", Fleeting: true,
	Cell: func(s *live.Session, now time.Time) any {
		if s.Status.State == live.SessionEnded || s.Status.ExpirationTime.IsZero() {
			return ""
		}
		return "in " + duration.HumanDuration(max(0, s.Status.ExpirationTime.Sub(now)))
	},
}

// placeOf returns NAMESPACE/POD:CONTAINER, without what is not known.
func placeOf(s *live.Session) string {
	spec := &s.Spec
	if spec.Pod == "" {
		return cmp.Or(spec.Container, s.Status.Container)
	}
	place := spec.Pod
	if spec.Namespace != "" {
		place = spec.Namespace + "/" + place
	}
	if spec.Container != "" {
		place += ":" + spec.Container
	}
	return place
}
