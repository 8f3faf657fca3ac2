// Package audit has what the audit lines of all packages share: how they name a user and a
// request, and how they write words that others have chosen.
//
//	log.Info("drained", append(audit.UserOf(ctx), "requestID", audit.RequestIDOf(ctx), "name", audit.Name(name))...)
//
// Such words must neither act on a terminal that shows the log, nor look like others. So
// they are neither cut nor changed: what is not plain ASCII is a JSON escape, from which a
// reader of JSON gets the very words.
package audit

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf16"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// User returns what lines say about a user: the name, and what tells namesakes apart.
func User(info user.Info) []any {
	switch {
	case info == nil:
		return []any{"user", ""}
	case info.GetUID() == "":
		return []any{"user", Exact(info.GetName())}
	default:
		return []any{"user", Exact(info.GetName()), "uid", Exact(info.GetUID())}
	}
}

// UserOf returns what lines say about the user of a request.
func UserOf(ctx context.Context) []any {
	info, _ := request.UserFrom(ctx)
	return User(info)
}

// RequestIDOf returns the ID of the request in the API server's own audit log.
func RequestIDOf(ctx context.Context) string {
	if id := audit.GetAuditIDTruncated(ctx); id != "" {
		return id
	}
	return string(uuid.NewUUID())
}

// Exact are words as a client, a user or a cluster gave them. In JSON, every character
// but those of printable ASCII is an escape. Bytes that are not UTF-8 become U+FFFD.
type Exact string

// MarshalJSON implements json.Marshaler.
func (e Exact) MarshalJSON() ([]byte, error) {
	text := make([]byte, 0, len(e)+2)
	text = append(text, '"')
	for _, r := range string(e) {
		switch {
		case r == '"' || r == '\\':
			text = append(text, '\\', byte(r))
		case ' ' <= r && r <= '~':
			text = append(text, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			text = fmt.Appendf(text, `\u%04x\u%04x`, high, low)
		default:
			text = fmt.Appendf(text, `\u%04x`, r)
		}
	}
	return append(text, '"'), nil
}

// longestName is longer than any name of an object, host, container or unix socket, in bytes.
const longestName = 256

// Name returns a name as it is, but for what is too long to be one: a request that is
// refused may hold megabytes of it.
func Name(name string) Exact {
	if len(name) > longestName {
		name = strings.ToValidUTF8(name[:longestName], "") + "..."
	}
	return Exact(name)
}

// Words returns each of the words as it is.
func Words(words []string) []Exact {
	exact := make([]Exact, len(words))
	for i, word := range words {
		exact[i] = Exact(word)
	}
	return exact
}
