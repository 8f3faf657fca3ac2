package session

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/list"
)

var resource = list.Resource[*live.Session]{
	Singular: "session", Plural: "sessions", Object: &live.Session{}, List: &live.SessionList{},
	Columns: []list.Column[*live.Session]{
		list.Text("Name", 0, "Name of the session", func(s *live.Session, _ time.Time) any { return s.Name }),
		list.Text("Pool", 0, "Pool whose connection it uses", func(s *live.Session, _ time.Time) any { return s.Spec.Pool }),
		list.Text("Target", 0, "Target on which its shell runs", func(s *live.Session, _ time.Time) any { return s.Status.Target }),
		list.Text("State", 0, "Ready, Busy, or the reason why it ended", stateOf),
		list.Text("Owner", 0, "Who created it, and who alone may use it", func(s *live.Session, _ time.Time) any { return s.Status.Owner }),
		list.Number("Commands", "Commands that have been run in it", func(s *live.Session, _ time.Time) any { return s.Status.CommandCount }),
		list.Text("Last-Used", 0, "How long ago a command ended", func(s *live.Session, now time.Time) any {
			return ago(now, s.Status.LastUsedTime)
		}),
		list.Text("Expires", 0, "When it ends, whatever it does", expires),
		list.Text("Age", 0, "How long ago it was created", func(s *live.Session, now time.Time) any {
			return ago(now, &s.CreationTimestamp)
		}),
		list.Text("Place", 1, "Container or pod in which its shell runs", func(s *live.Session, _ time.Time) any { return placeIn(&s.Spec) }),
		list.Text("Connection", 1, "Connection that it uses", func(s *live.Session, _ time.Time) any { return s.Status.Connection }),
		list.Text("Message", 1, "Why it ended, and the next step", func(s *live.Session, _ time.Time) any { return s.Status.Message }),
	},
	Fields: []list.Field[*live.Session]{
		{Name: "metadata.name", Value: func(s *live.Session) string { return s.Name }},
		{Name: "metadata.namespace", Value: func(s *live.Session) string { return s.Namespace }},
		{Name: live.FieldPool, Value: func(s *live.Session) string { return s.Spec.Pool }},
		{Name: live.FieldTarget, Value: func(s *live.Session) string { return s.Status.Target }},
		{Name: live.FieldState, Value: func(s *live.Session) string { return string(s.Status.State) }},
	},
}

func stateOf(s *live.Session, _ time.Time) any {
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
