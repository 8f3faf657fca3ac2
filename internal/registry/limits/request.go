package limits

import (
	"fmt"
	"net/http"

	"github.com/connpool/connpool/internal/registry/quota"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// uploadWindow is how much of a body HTTP/2 keeps that is not read yet.
const uploadWindow = 256 << 10

// SizeOf is how much a request holds as long as its use lasts: its head, as it came and
// as it is understood, and what has arrived of its body.
func SizeOf(req *http.Request) int64 {
	size := len(req.RequestURI)
	for name, values := range req.Header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	held := 3 * int64(size)
	switch {
	case req.ProtoMajor < 2 || req.ContentLength == 0:
		return held
	case req.ContentLength < 0:
		return held + uploadWindow
	default:
		return held + min(req.ContentLength, uploadWindow)
	}
}

// Hold counts the size of a request until release is called once, unless it is too much.
func (m Memory) Hold(owner quota.Owner, size int64) (release func(), err error) {
	if full := m.Input.Take(owner, size); full != quota.Free {
		return nil, refusal.NotStarted(refusal.TooManyRequests, "",
			fmt.Sprintf("the operator holds too much of other requests of %s; try again later, or send shorter headers", full))
	}
	return func() { m.Input.Add(owner, -size) }, nil
}
