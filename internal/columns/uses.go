package columns

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// Uses are the columns of uses.
var Uses = slices.Concat([]Column[*live.Use]{
	Text("Name", "Name of the use", func(u *live.Use) string { return u.Name }),
	Ago("Age", "How long ago the use began", func(u *live.Use) *metav1.Time { return &u.CreationTimestamp }),
	Text("User", "Who sent the request", func(u *live.Use) string { return u.User }),
	Text("Pool", "Pool that was used", func(u *live.Use) string { return u.Pool }),
	Text("Target", "Target that was used", func(u *live.Use) string { return u.Target }),
	Text("Action", "exec, session, portforward, proxy or list", func(u *live.Use) string { return string(u.Action) }),
	Text("Result", "How it ended, or that it runs", func(u *live.Use) string { return u.Result() }),
	Text("Duration", "How long it has had its connection", lasted),
}, Wide(
	Text("Connection", "Connection that was used", func(u *live.Use) string { return u.Connection }),
	Text("Request-ID", "ID in the audit lines", func(u *live.Use) string { return u.RequestID }),
))

// lasted returns "" for a use that has had no connection.
func lasted(u *live.Use) string {
	if u.State == live.UseRefused {
		return ""
	}
	return Micros(u.DurationMicroseconds)
}
