package exec

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/registry/refusal"
)

// bodyTimeout bounds how long a client may take to send an Exec object.
const bodyTimeout = 30 * time.Second

// Bounds of what the commands of the JSON form hold in memory, all together and those
// of one user. They apply to the input, which is in Exec objects that are read or
// used, and to the output. 2,000 of the longest would be more than the memory that the
// operator is usually given.
const (
	maxBytes     = 128 << 20
	maxUserBytes = 64 << 20
)

// budget bounds how many bytes are held at the same time.
type budget struct {
	// most bounds all of them, mostUser those of one user.
	most, mostUser int64

	mu    sync.Mutex // guards what follows
	bytes int64
	users map[string]int64
}

func newBudget(most, mostUser int64) *budget {
	return &budget{most: most, mostUser: mostUser, users: map[string]int64{}}
}

// take counts more bytes, and reports whether that is within the bounds.
func (b *budget) take(user string, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+bytes > b.most || b.users[user]+bytes > b.mostUser {
		return false
	}
	b.count(user, bytes)
	return true
}

// give gives back what take has counted.
func (b *budget) give(user string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(user, -bytes)
}

func (b *budget) count(user string, bytes int64) {
	b.bytes += bytes
	if b.users[user] += bytes; b.users[user] == 0 {
		delete(b.users, user)
	}
}

// holdBody counts the body of a request until release is called once. A body of
// unknown length counts like the longest.
func (c *Commands) holdBody(user string, length int64) (release func(), err error) {
	if length < 0 || length > maxExecBytes {
		length = maxExecBytes
	}
	if !c.input.take(user, length) {
		return nil, refusal.NotStarted(refusal.TooManyRequests, "", "the operator holds too much input of other commands; "+
			"try again later, or stream the input, with an upgrade to WebSocket or SPDY")
	}
	return func() { c.input.give(user, length) }, nil
}

// readBody reads a body of bounded length in bounded time. After that, the HTTP server
// itself removes the deadline, because it reads on to notice that the client leaves.
func readBody(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	// A response without deadlines is one in memory, whose client is not slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	return io.ReadAll(http.MaxBytesReader(w, req.Body, maxExecBytes))
}
