// Package running keeps the commands that run on a connection, so that closing it
// can tell them to end: most would not notice that their connection is gone.
//
//	defer commands.Add(command.ended, func(ctx context.Context) { command.signal("TERM") })()
//	commands.End(ctx)
package running

import (
	"context"
	"maps"
	"sync"
)

// Set is the commands of one connection. Its zero value is empty. It is safe for
// concurrent use.
type Set struct {
	mu      sync.Mutex // guards what follows
	signals map[<-chan struct{}]func(context.Context)
}

// Add keeps a command until remove is called. The channel is closed when the command
// has ended, and signal tells it to end.
func (s *Set) Add(ended <-chan struct{}, signal func(context.Context)) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signals == nil {
		s.signals = map[<-chan struct{}]func(context.Context){}
	}
	s.signals[ended] = signal
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.signals, ended)
	}
}

// PassOn sends the signals of a caller on to a command until the command has ended.
func PassOn[S any](signals <-chan S, ended <-chan struct{}, send func(S)) {
	for signals != nil {
		select {
		case signal, more := <-signals:
			if !more {
				return
			}
			send(signal)
		case <-ended:
			return
		}
	}
}

// End signals every command, and waits until all have ended or the context has. It
// does not wait for a signal to return.
func (s *Set) End(ctx context.Context) {
	s.mu.Lock()
	signals := maps.Clone(s.signals)
	s.mu.Unlock()
	for _, signal := range signals {
		go signal(ctx)
	}
	for ended := range signals {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
