package registry

import (
	"context"
	"fmt"
	"time"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// sessionTable shows sessions to people.
type sessionTable struct{}

var _ rest.TableConvertor = sessionTable{}

type sessionColumn struct {
	metav1.TableColumnDefinition
	cell func(s *live.Session, now time.Time) any
}

// sessionColumns of the table; those of priority 1 are shown with -o wide.
var sessionColumns = []sessionColumn{
	sessionText("Name", 0, "Name of the session", func(s *live.Session, _ time.Time) any { return s.Name }),
	sessionText("Pool", 0, "Pool whose connection it uses", func(s *live.Session, _ time.Time) any { return s.Spec.Pool }),
	sessionText("Target", 0, "Target on which its shell runs", func(s *live.Session, _ time.Time) any { return s.Status.Target }),
	sessionText("State", 0, "Ready, Busy, or the reason why it ended", sessionState),
	sessionText("Owner", 0, "Who created it, and who alone may use it", func(s *live.Session, _ time.Time) any { return s.Status.Owner }),
	{
		metav1.TableColumnDefinition{Name: "Commands", Type: "integer", Description: "Commands that have been run in it"},
		func(s *live.Session, _ time.Time) any { return s.Status.CommandCount },
	},
	sessionText("Last-Used", 0, "How long ago a command ended", func(s *live.Session, now time.Time) any {
		return ago(now, s.Status.LastUsedTime)
	}),
	sessionText("Expires", 0, "When it ends, whatever it does", expires),
	sessionText("Age", 0, "How long ago it was created", func(s *live.Session, now time.Time) any {
		return ago(now, &s.CreationTimestamp)
	}),
	sessionText("Place", 1, "Container or pod in which its shell runs", func(s *live.Session, _ time.Time) any { return placeIn(&s.Spec) }),
	sessionText("Connection", 1, "Connection that it uses", func(s *live.Session, _ time.Time) any { return s.Status.Connection }),
	sessionText("Message", 1, "Why it ended, and the next step", func(s *live.Session, _ time.Time) any { return s.Status.Message }),
}

func sessionText(name string, priority int32, description string, cell func(*live.Session, time.Time) any) sessionColumn {
	return sessionColumn{text(name, priority, description, nil).TableColumnDefinition, cell}
}

func sessionState(s *live.Session, _ time.Time) any {
	if s.Status.State == live.SessionEnded {
		return s.Status.Reason
	}
	return string(s.Status.State)
}

func ago(now time.Time, then *metav1.Time) string {
	if then == nil {
		return "<none>"
	}
	return duration.HumanDuration(now.Sub(then.Time))
}

func expires(s *live.Session, now time.Time) any {
	if s.Status.State == live.SessionEnded || s.Status.ExpirationTime == nil {
		return "<none>"
	}
	return "in " + duration.HumanDuration(s.Status.ExpirationTime.Sub(now))
}

func placeIn(spec *live.SessionSpec) string {
	place := spec.Container
	if spec.Pod != "" {
		place = spec.Pod
		if spec.Namespace != "" {
			place = spec.Namespace + "/" + place
		}
		if spec.Container != "" {
			place += ":" + spec.Container
		}
	}
	if place == "" {
		return "<none>"
	}
	return place
}

// ConvertToTable implements rest.TableConvertor.
func (sessionTable) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	now, table := time.Now(), &metav1.Table{}
	switch object := object.(type) {
	case *live.Session:
		table.Rows = append(table.Rows, sessionRow(object, now))
	case *live.SessionList:
		table.ListMeta = object.ListMeta
		for i := range object.Items {
			table.Rows = append(table.Rows, sessionRow(&object.Items[i], now))
		}
	default:
		return nil, fmt.Errorf("there is no table of a %T", object)
	}
	if wanted, ok := options.(*metav1.TableOptions); !ok || !wanted.NoHeaders {
		for _, column := range sessionColumns {
			table.ColumnDefinitions = append(table.ColumnDefinitions, column.TableColumnDefinition)
		}
	}
	return table, nil
}

func sessionRow(s *live.Session, now time.Time) metav1.TableRow {
	row := metav1.TableRow{Object: runtime.RawExtension{Object: s}}
	for _, column := range sessionColumns {
		row.Cells = append(row.Cells, column.cell(s, now))
	}
	return row
}

// sessionFields are the fields that selectors may name.
var sessionFields = map[string]func(*live.Session) string{
	"metadata.name":      func(s *live.Session) string { return s.Name },
	"metadata.namespace": func(s *live.Session) string { return s.Namespace },
	live.FieldPool:       func(s *live.Session) string { return s.Spec.Pool },
	live.FieldTarget:     func(s *live.Session) string { return s.Status.Target },
	live.FieldState:      func(s *live.Session) string { return string(s.Status.State) },
}

// sessionSelection is which sessions a list wants.
type sessionSelection struct {
	labels labels.Selector
	fields []fields.Requirement
}

func sessionSelectionOf(options *metainternalversion.ListOptions) (sessionSelection, error) {
	wanted := sessionSelection{labels: labels.Everything()}
	if options != nil && options.LabelSelector != nil {
		wanted.labels = options.LabelSelector
	}
	if options != nil && options.FieldSelector != nil {
		wanted.fields = options.FieldSelector.Requirements()
	}
	for _, requirement := range wanted.fields {
		if sessionFields[requirement.Field] == nil {
			return wanted, refused(badRequest, fmt.Sprintf("the field selector names %q, which sessions are not selected by; "+
				"choose one of %s, %s, %s and metadata.name", plain(requirement.Field), live.FieldPool, live.FieldTarget, live.FieldState))
		}
	}
	return wanted, nil
}

func (s sessionSelection) matches(session *live.Session) bool {
	for _, requirement := range s.fields {
		has := sessionFields[requirement.Field](session) == requirement.Value
		if has == (requirement.Operator == "!=") {
			return false
		}
	}
	return s.labels.Matches(labels.Set(session.Labels))
}
