package registry

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/list"
)

// connectionTable shows connections; columns of priority 1 are shown with -o wide.
var connectionTable = list.Table[*live.Connection]{
	list.Text("Name", 0, "Name of the connection", func(c *live.Connection, _ time.Time) any { return c.Name }),
	list.Text("Pool", 0, "Pool that the connection belongs to", func(c *live.Connection, _ time.Time) any { return c.Pool }),
	list.Text("Target", 0, "Target that it leads to", func(c *live.Connection, _ time.Time) any { return c.Target }),
	list.Text("Type", 0, "Protocol of the target", func(c *live.Connection, _ time.Time) any { return c.Type }),
	list.Text("State", 0, "Idle, InUse or Draining", func(c *live.Connection, _ time.Time) any { return string(c.State) }),
	list.Number("In-Use", "Uses that run on it now", func(c *live.Connection, _ time.Time) any { return int64(c.InUse) }),
	list.Number("Uses", "Uses that have ended", func(c *live.Connection, _ time.Time) any { return c.UseCount }),
	list.Text("Age", 0, "How long ago it was made", func(c *live.Connection, now time.Time) any {
		return duration.HumanDuration(now.Sub(c.CreationTimestamp.Time))
	}),
	list.Text("Idle", 0, "How long it has been unused", idleFor),
	list.Text("RTT", 0, "Newest round trip of a keepalive", func(c *live.Connection, _ time.Time) any {
		return milliseconds(c.RoundTripMicroseconds)
	}),
	list.Text("Server", 1, "What the remote calls itself", func(c *live.Connection, _ time.Time) any { return c.ServerVersion }),
	list.Text("Address", 1, "Resolved address", func(c *live.Connection, _ time.Time) any { return c.RemoteAddress }),
	list.Text("Handshake", 1, "How long it took to make the connection", func(c *live.Connection, _ time.Time) any {
		return milliseconds(c.HandshakeMicroseconds)
	}),
	list.Text("Saved", 1, "Time that its uses did not spend on handshakes", saved),
	list.Text("Replica", 1, "Replica of the operator that holds it", func(c *live.Connection, _ time.Time) any { return c.Replica }),
}

func idleFor(c *live.Connection, now time.Time) any {
	switch {
	case c.InUse > 0:
		return "0s"
	case c.LastUsedTime != nil:
		return duration.HumanDuration(now.Sub(c.LastUsedTime.Time))
	default:
		return duration.HumanDuration(now.Sub(c.CreationTimestamp.Time))
	}
}

func saved(c *live.Connection, _ time.Time) any {
	spared := time.Duration(c.UseCount+int64(c.InUse)) * time.Duration(c.HandshakeMicroseconds) * time.Microsecond
	return spared.Round(time.Millisecond).String()
}

// milliseconds shows a round trip, which is 0 before the first keepalive.
func milliseconds(microseconds int64) string {
	if microseconds == 0 {
		return "<none>"
	}
	return fmt.Sprintf("%.1fms", float64(microseconds)/1000)
}

// selectable are the fields that selectors may name.
var selectable = list.Selectable[*live.Connection]{
	Plural: "connections",
	Fields: []list.Field[*live.Connection]{
		{Name: "metadata.name", Value: func(c *live.Connection) string { return c.Name }},
		{Name: "metadata.namespace", Value: func(c *live.Connection) string { return c.Namespace }},
		{Name: live.FieldPool, Value: func(c *live.Connection) string { return c.Pool }},
		{Name: live.FieldTarget, Value: func(c *live.Connection) string { return c.Target }},
		{Name: live.FieldType, Value: func(c *live.Connection) string { return c.Type }},
		{Name: live.FieldState, Value: func(c *live.Connection) string { return string(c.State) }},
	},
}
