// Package running keeps the commands that run on a connection, so that closing it
// can tell them to end: most would not notice that their connection is gone.
//
//	defer commands.Add(command.ended, func(ctx context.Context) { command.signal("TERM") })()
//	commands.End(ctx)
package running

import (
	"context"
	"sync"

	"github.com/connpool/connpool/internal/list"
)

// Set is the commands of one connection. Its zero value is empty. It is safe for
// concurrent use. It is a list, because a map would keep its room when all have ended.
type Set struct {
	mu       sync.Mutex // guards what follows
	commands list.List[command]
}

type command struct {
	ended  <-chan struct{}
	signal func(context.Context)
}

// Add keeps a command until remove is called. The channel is closed when the command
// has ended, and signal tells it to end.
func (s *Set) Add(ended <-chan struct{}, signal func(context.Context)) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := &list.Element[command]{Value: command{ended, signal}}
	s.commands.PushBack(added)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		added.Leave()
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
	commands := s.all()
	for _, c := range commands {
		go c.signal(ctx)
	}
	for _, c := range commands {
		select {
		case <-c.ended:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Set) all() (commands []command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.commands.Head; e != nil; e = e.Next {
		commands = append(commands, e.Value)
	}
	return commands
}
