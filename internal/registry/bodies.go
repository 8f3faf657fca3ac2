package registry

import (
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxBodies and maxUserBodies bound the bytes of all Exec objects that are
	// read or used at the same time, and those of one user. 2,000 of the longest
	// would be more than the memory that the operator is usually given.
	maxBodies     = 128 << 20
	maxUserBodies = 64 << 20
	// bodyTimeout bounds how long a client may take to send one.
	bodyTimeout = 30 * time.Second
)

// bodies counts the bytes of requests.
type bodies struct {
	mu    sync.Mutex // guards what follows
	bytes int64
	users map[string]int64
}

func newBodies() *bodies { return &bodies{users: map[string]int64{}} }

// hold counts a request until release is called once. A body of unknown length
// counts like the longest.
func (b *bodies) hold(user string, length int64) (release func(), err error) {
	if length < 0 || length > maxExecBytes {
		length = maxExecBytes
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+length > maxBodies || b.users[user]+length > maxUserBodies {
		return nil, refusedBeforeStart(tooManyRequests, "", "the operator holds too much input of other commands; "+
			"try again later, or stream the input, with an upgrade to WebSocket or SPDY")
	}
	b.count(user, length)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.count(user, -length)
	}, nil
}

func (b *bodies) count(user string, bytes int64) {
	b.bytes += bytes
	if b.users[user] += bytes; b.users[user] == 0 {
		delete(b.users, user)
	}
}

// readBody reads a body of bounded length in bounded time. Once it is there, the
// server itself lifts the deadline, since it reads on to notice that the client
// leaves.
func readBody(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	// Where there are no deadlines there is no client that could be slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	return io.ReadAll(http.MaxBytesReader(w, req.Body, maxExecBytes))
}
