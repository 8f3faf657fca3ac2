package registry

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// connectionTable shows connections to people.
type connectionTable struct{}

var _ rest.TableConvertor = connectionTable{}

// column is one column of the table.
type column struct {
	metav1.TableColumnDefinition
	cell func(c *live.Connection, now time.Time) any
}

// columns of the table; those of priority 1 are shown with -o wide.
var columns = []column{
	text("Name", 0, "Name of the connection", func(c *live.Connection, _ time.Time) any { return c.Name }),
	text("Pool", 0, "Pool that the connection belongs to", func(c *live.Connection, _ time.Time) any { return c.Pool }),
	text("Target", 0, "Target that it leads to", func(c *live.Connection, _ time.Time) any { return c.Target }),
	text("Type", 0, "Protocol of the target", func(c *live.Connection, _ time.Time) any { return c.Type }),
	text("State", 0, "Idle, InUse or Draining", func(c *live.Connection, _ time.Time) any { return string(c.State) }),
	number("In-Use", "Uses that run on it now", func(c *live.Connection, _ time.Time) any { return int64(c.InUse) }),
	number("Uses", "Uses that have ended", func(c *live.Connection, _ time.Time) any { return c.UseCount }),
	text("Age", 0, "How long ago it was made", func(c *live.Connection, now time.Time) any {
		return duration.HumanDuration(now.Sub(c.CreationTimestamp.Time))
	}),
	text("Idle", 0, "How long nobody has used it", idleFor),
	text("RTT", 0, "Newest round trip of a keepalive", func(c *live.Connection, _ time.Time) any {
		return milliseconds(c.RoundTripMicroseconds)
	}),
	text("Server", 1, "What the remote calls itself", func(c *live.Connection, _ time.Time) any { return c.ServerVersion }),
	text("Address", 1, "Resolved address", func(c *live.Connection, _ time.Time) any { return c.RemoteAddress }),
	text("Handshake", 1, "How long it took to make the connection", func(c *live.Connection, _ time.Time) any {
		return milliseconds(c.HandshakeMicroseconds)
	}),
	text("Saved", 1, "Time that its uses did not spend on handshakes", saved),
	text("Replica", 1, "Replica of the operator that holds it", func(c *live.Connection, _ time.Time) any { return c.Replica }),
}

type cellFunc func(c *live.Connection, now time.Time) any

func text(name string, priority int32, description string, cell cellFunc) column {
	format := ""
	if name == "Name" {
		format = "name"
	}
	return column{metav1.TableColumnDefinition{
		Name: name, Type: "string", Format: format, Description: description, Priority: priority,
	}, cell}
}

func number(name, description string, cell cellFunc) column {
	return column{metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}, cell}
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

// milliseconds shows a round trip; there is none before the first keepalive.
func milliseconds(microseconds int64) string {
	if microseconds == 0 {
		return "<none>"
	}
	return fmt.Sprintf("%.1fms", float64(microseconds)/1000)
}

// ConvertToTable implements rest.TableConvertor.
func (connectionTable) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	now, table := time.Now(), &metav1.Table{}
	switch object := object.(type) {
	case *live.Connection:
		table.Rows = append(table.Rows, rowOf(object, now))
	case *live.ConnectionList:
		table.ListMeta = object.ListMeta
		for i := range object.Items {
			table.Rows = append(table.Rows, rowOf(&object.Items[i], now))
		}
	default:
		return nil, fmt.Errorf("there is no table of a %T", object)
	}
	if wanted, ok := options.(*metav1.TableOptions); !ok || !wanted.NoHeaders {
		for _, column := range columns {
			table.ColumnDefinitions = append(table.ColumnDefinitions, column.TableColumnDefinition)
		}
	}
	return table, nil
}

func rowOf(c *live.Connection, now time.Time) metav1.TableRow {
	row := metav1.TableRow{Object: runtime.RawExtension{Object: c}}
	for _, column := range columns {
		row.Cells = append(row.Cells, column.cell(c, now))
	}
	return row
}
