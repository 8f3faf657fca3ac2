package sftpclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"
)

// Bounds of what a server may list during the life of a guard.
const (
	maxEntries = 1_000_000
	maxBytes   = 256 << 20
	// emptyCost is how many entries an answer without any counts for. It is what
	// OpenSSH puts into one.
	emptyCost = 100
)

// Types of packets, of version 3 of the protocol.
const (
	typeVersion = 2
	typeOpen    = 3
	typeMkdir   = 14
	typeName    = 104
)

// guard watches the packets of one client, on their way to the server and back.
// Its zero value is ready.
type guard struct {
	mu sync.Mutex // guards what follows
	// modes are the permissions of files and directories that are about to be made.
	modes map[string]fs.FileMode
	// waiting is how many requests have no answer yet, and since is when the server
	// was last heard or, if nothing was expected then, asked.
	waiting int
	since   time.Time
	entries int
	bytes   int64
	failure error
	// began is true once the server has sent a packet.
	began    bool
	greeting []byte
}

// make says with which permissions the next request for this path makes a file or
// directory. The server applies its umask to them.
func (g *guard) make(path string, mode fs.FileMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.modes == nil {
		g.modes = map[string]fs.FileMode{}
	}
	g.modes[path] = mode
}

// silence returns for how long the server has let requests wait; 0 if none does.
func (g *guard) silence() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == 0 {
		return 0
	}
	return time.Since(g.since)
}

// err returns why no more answers are passed on, if that is so.
func (g *guard) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failure
}

// fail makes err return an error, unless it has one.
func (g *guard) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure == nil {
		g.failure = err
	}
}

// said returns the beginning of what the server has sent instead of packets.
func (g *guard) said() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return string(g.greeting)
}

// requests returns a writer for the client, whose packets go to out. The client
// writes the head of each packet in one piece.
func (g *guard) requests(out io.WriteCloser) io.WriteCloser {
	return &requestWriter{WriteCloser: out, guard: g}
}

type requestWriter struct {
	io.WriteCloser

	guard *guard
	// rest is how many bytes of the last packet are still to come.
	rest int
}

func (r *requestWriter) Write(p []byte) (int, error) {
	if r.rest > 0 {
		n, err := r.WriteCloser.Write(p)
		r.rest -= n
		return n, err
	}
	if len(p) < 5 {
		return 0, errors.New("sftp: an incomplete packet")
	}
	r.rest = 4 + int(binary.BigEndian.Uint32(p)) - len(p)
	if _, err := r.WriteCloser.Write(r.guard.ask(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ask counts a request, and returns it with the permissions that it needs.
func (g *guard) ask(packet []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == 0 {
		g.since = time.Now()
	}
	g.waiting++
	if kind := packet[4]; kind != typeOpen && kind != typeMkdir {
		return packet
	}
	path := pathOf(packet)
	mode, known := g.modes[path]
	if !known {
		return packet
	}
	delete(g.modes, path)
	return withMode(packet, mode)
}

// pathOf returns the path in a request that begins with one.
func pathOf(packet []byte) string {
	const at = 4 + 1 + 4 // behind the length, the type and the ID
	if len(packet) < at+4 {
		return ""
	}
	n := int(binary.BigEndian.Uint32(packet[at:]))
	return string(packet[at+4 : min(at+4+n, len(packet))])
}

// withMode replaces the attributes at the end of a request, which are empty.
func withMode(packet []byte, mode fs.FileMode) []byte {
	const hasPermissions = 4
	changed := append([]byte(nil), packet[:len(packet)-4]...)
	changed = binary.BigEndian.AppendUint32(changed, hasPermissions)
	changed = binary.BigEndian.AppendUint32(changed, uint32(mode.Perm()))
	binary.BigEndian.PutUint32(changed, uint32(len(changed)-4))
	return changed
}

// answers returns a writer for what the server sends, which goes to out. It fails
// when the server has sent more than a client should keep.
func (g *guard) answers(out io.Writer) io.Writer { return &answerWriter{out: out, guard: g} }

type answerWriter struct {
	out   io.Writer
	guard *guard
	// head is the beginning of a packet, and rest how much of one is still to come
	// behind its head.
	head []byte
	rest int64
}

// headBytes holds the length, the type, the ID and, in a list, the number of names.
const headBytes = 4 + 1 + 4 + 4

func (a *answerWriter) Write(p []byte) (int, error) {
	if err := a.scan(p); err != nil {
		return 0, err
	}
	return a.out.Write(p)
}

func (a *answerWriter) scan(p []byte) error {
	a.guard.greet(p)
	for len(p) > 0 {
		if a.rest > 0 {
			n := min(a.rest, int64(len(p)))
			a.rest, p = a.rest-n, p[n:]
			continue
		}
		n := min(a.missing(), len(p))
		a.head, p = append(a.head, p[:n]...), p[n:]
		if a.missing() > 0 {
			continue
		}
		length := 4 + int64(binary.BigEndian.Uint32(a.head))
		a.rest = length - int64(len(a.head))
		if err := a.guard.answer(a.head, length); err != nil {
			return err
		}
		a.head = a.head[:0]
	}
	return nil
}

// missing returns how many bytes of a head are still to come.
func (a *answerWriter) missing() int {
	if len(a.head) < 4 {
		return 4 - len(a.head)
	}
	length := 4 + int64(binary.BigEndian.Uint32(a.head))
	return int(min(headBytes, length)) - len(a.head)
}

// answer counts a packet of the server.
func (g *guard) answer(head []byte, length int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting, g.since = max(0, g.waiting-1), time.Now()
	if len(head) < headBytes || head[4] != typeName {
		return nil
	}
	names := int(min(binary.BigEndian.Uint32(head[9:]), maxEntries))
	if names == 0 {
		names = emptyCost
	}
	g.bytes, g.entries = g.bytes+length, g.entries+names
	if g.failure == nil && (g.entries > maxEntries || g.bytes > maxBytes) {
		g.failure = fmt.Errorf("the server lists more than %d files, or more than %d MiB of names: nothing more is copied",
			maxEntries, maxBytes>>20)
	}
	return g.failure
}

// maxGreeting bounds what is kept of a greeting, in bytes.
const maxGreeting = 256

// greet keeps the beginning of what is no packet. The first packet of a server is
// short and has the type of a version.
func (g *guard) greet(p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.began || len(g.greeting) >= maxGreeting {
		return
	}
	g.greeting = append(g.greeting, p[:min(len(p), maxGreeting-len(g.greeting))]...)
	if len(g.greeting) > 4 && g.greeting[0] == 0 && g.greeting[4] == typeVersion {
		g.began, g.greeting = true, nil
	}
}
