package columns

import (
	"cmp"
	"slices"
	"strings"

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
	Text("What", "What was done, as far as the operator keeps it", what),
	Text("Result", "How it ended, or that it runs", func(u *live.Use) string { return u.Result() }),
	fleeting(Text("Duration", "How long it has had its connection",
		ofConnected(func(u *live.Use) int64 { return u.DurationMicroseconds }))),
}, Wide(
	Text("Connection", "Connection that was used", func(u *live.Use) string { return u.Connection }),
	Text("Acquired", "How it got its connection: Warm, Queued or Dialed", func(u *live.Use) string { return string(u.Acquired) }),
	Text("Wait", "How long it waited for its connection", ofConnected(func(u *live.Use) int64 { return u.AcquireMicroseconds })),
	fleeting(Number("Bytes-In", "Bytes from the user to the target", func(u *live.Use) int64 { return u.BytesIn })),
	fleeting(Number("Bytes-Out", "Bytes from the target to the user", func(u *live.Use) int64 { return u.BytesOut })),
	Text("Request-ID", "ID in the audit lines", func(u *live.Use) string { return u.RequestID }),
	Text("Message", "Why it was refused", func(u *live.Use) string { return u.Message }),
))

// fleeting returns a column of a use that changes as long as it runs.
func fleeting(column Column[*live.Use]) Column[*live.Use] {
	column.Fleeting = true
	return column
}

// ofConnected formats a duration in microseconds; "" for a use that has had no connection.
func ofConnected(microseconds func(*live.Use) int64) func(*live.Use) string {
	return func(u *live.Use) string {
		if u.State == live.UseRefused {
			return ""
		}
		return Micros(microseconds(u))
	}
}

// maxWhat bounds the column What, in characters.
const maxWhat = 60

// what says what was done, as far as the operator remembers it.
func what(u *live.Use) string {
	words := []string{string(u.Action)}
	switch {
	case len(u.Command) > 0:
		words = append(words, u.Command...)
	case u.Method != "":
		words = []string{u.Method, u.Path}
	case u.Host != "" || u.Socket != "":
		words = append(words, cmp.Or(u.Socket, u.Host))
	}
	for _, word := range [][2]string{{"pod", u.Pod}, {"container", u.Container}, {"session", u.Session}} {
		if word[1] != "" {
			words = append(words, "("+word[0]+" "+word[1]+")")
		}
	}
	text := []rune(strings.Join(words, " "))
	if len(text) > maxWhat {
		return string(text[:maxWhat-3]) + "..."
	}
	return string(text)
}
