package sftpclient

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pkg/sftp"
)

const (
	// defaultStreams share a large file far away.
	defaultStreams = 4
	// MaxStreams are the most that a user may ask for.
	MaxStreams = 16
	// sharedBytes is how large a file is that several streams share. A smaller one is there
	// before they have begun.
	sharedBytes = 16 << 20
	// farAway is the round trip from which on one window of 2 MiB limits the rate, to
	// 400 MiB a second.
	farAway = 5 * time.Millisecond
	// laneTime is how long further streams may take to begin. A pool without a free place
	// would let them wait.
	laneTime = 3 * time.Second
)

// lanes are further sftp clients on a target, which share its large files. They are opened
// when the first such file comes, and opened again for the next one if they have broken. One
// that the server or the pool refuses is left out.
type lanes struct {
	first *Client
	// streams is how many there are with the first; 0 leaves it to the round trip.
	streams int
	open    func(context.Context) (*Client, error)

	mu      sync.Mutex // guards what follows
	asked   bool
	further []*Client
}

// clients returns the further clients for a file of this size.
func (l *lanes) clients(ctx context.Context, size int64) []*Client {
	if size < sharedBytes || l.streams == 1 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.asked {
		l.asked = true
		l.further = l.openAll(ctx, l.wanted()-1)
	}
	l.replaceBroken(ctx)
	return slices.Clone(l.further)
}

func (l *lanes) replaceBroken(ctx context.Context) {
	broken := 0
	l.further = slices.DeleteFunc(l.further, func(c *Client) bool {
		if !c.hasEnded() {
			return false
		}
		_ = c.Close() // it is known to have failed
		broken++
		return true
	})
	l.further = append(l.further, l.openAll(ctx, broken)...)
}

// wanted returns how many streams the way to the target is worth.
func (l *lanes) wanted() int {
	if l.streams > 0 {
		return l.streams
	}
	began := time.Now()
	if _, err := l.first.Lstat("."); err != nil || time.Since(began) < farAway {
		return 1
	}
	return defaultStreams
}

func (l *lanes) openAll(ctx context.Context, n int) []*Client {
	opened := make([]*Client, n)
	var opening sync.WaitGroup
	for i := range opened {
		opening.Go(func() { opened[i] = l.openOne(ctx) })
	}
	opening.Wait()
	return slices.DeleteFunc(opened, func(c *Client) bool { return c == nil })
}

// openOne returns nil if there is no further stream in time.
func (l *lanes) openOne(ctx context.Context) *Client {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(laneTime, cancel)
	client, err := l.open(ctx)
	switch {
	case err != nil:
		cancel()
		return nil
	case !late.Stop():
		_ = client.Close()
		return nil
	}
	client.OnClose(cancel)
	return client
}

// close ends the further streams, and returns the error of one that has failed.
func (l *lanes) close() error {
	var failed error
	for _, client := range l.further {
		if err := client.Close(); failed == nil {
			failed = err
		}
	}
	return failed
}

// Lanes implements filesystem.Server.
func (f *Files) Lanes(ctx context.Context, name string, write bool, size int64) []*sftp.File {
	flag := os.O_RDONLY
	if write {
		flag = os.O_WRONLY
	}
	clients := f.lanes.clients(ctx, size)
	opened := make([]*sftp.File, len(clients))
	var opening sync.WaitGroup
	for i, client := range clients {
		opening.Go(func() { opened[i], _ = client.OpenFile(name, flag) }) // the others do without it
	}
	opening.Wait()
	return slices.DeleteFunc(opened, func(file *sftp.File) bool { return file == nil })
}
