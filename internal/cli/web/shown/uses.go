package shown

import (
	"cmp"
	"slices"
	"strings"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
)

// mostEnded is how many uses are shown that have ended.
const mostEnded = 10

// Use is a use of the chosen target, and whose it is.
type Use struct {
	ID   string `json:"id"`
	User string `json:"user"`
	What string `json:"what"`
	// Result says how it ended; "" while it runs.
	Result string `json:"result,omitempty"`
	Since  int64  `json:"since"`
	Until  int64  `json:"until,omitempty"`
}

// addUses adds who uses the target. Sessions stand in for uses that cannot be read.
func (d *Detail) addUses(f *Facts) {
	d.Running, d.Ended, d.NoUses = []Use{}, []Use{}, f.NoUses
	for i := range f.Uses {
		switch u := &f.Uses[i]; {
		case u.State == livev1alpha1.UseRunning:
			d.Running = append(d.Running, useOf(u))
		case len(d.Ended) < mostEnded:
			d.Ended = append(d.Ended, useOf(u))
		}
	}
	if f.NoUses == "" {
		return
	}
	for i := range f.Sessions {
		s := &f.Sessions[i]
		if s.Namespace == d.Namespace && s.Spec.Pool == d.Pool &&
			cmp.Or(s.Status.Target, s.Spec.Target) == d.Target && s.Status.State != livev1alpha1.SessionEnded {
			d.Running = append(d.Running, useOfSession(s))
		}
	}
	slices.SortFunc(d.Running, func(a, b Use) int { return cmp.Compare(b.Since, a.Since) })
}

func useOf(u *livev1alpha1.Use) Use {
	use := Use{
		ID: u.Name, User: display.OneLine(u.User), What: display.OneLine(whatOf(u)),
		Since: millis(&u.CreationTimestamp), Until: millis(u.EndTime),
	}
	if u.State != livev1alpha1.UseRunning {
		use.Result = display.OneLine(u.Result())
	}
	return use
}

// whatOf says what a connection is used for, as far as the operator remembers it.
func whatOf(u *livev1alpha1.Use) string {
	words := []string{string(u.Action)}
	switch u.Action {
	case livev1alpha1.UseSession:
		words = append(words, u.Session)
	case livev1alpha1.UseProxy:
		words = append(words, u.Method, u.Path)
	case livev1alpha1.UsePortForward:
		words = append(words, u.Host, u.Socket)
	case livev1alpha1.UseExec:
		words = append(words, u.Command...)
	case livev1alpha1.UseListing: // of all places of the target
	}
	if place := placeOf(u.PodNamespace, u.Pod, u.Container); place != "" {
		words = append(words, "in", place)
	}
	return strings.Join(words, " ")
}

func useOfSession(s *livev1alpha1.Session) Use {
	what := "session " + s.Name
	if place := placeOf(s.Spec.Namespace, s.Spec.Pod, s.Spec.Container); place != "" {
		what += " in " + place
	}
	return Use{ID: s.Name, User: display.OneLine(s.Status.Owner), What: display.OneLine(what), Since: millis(&s.CreationTimestamp)}
}

// placeOf names a container or pod in the target, or neither.
func placeOf(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), "/")
}
