// Package running keeps the commands that run on a connection, so that closing it
// can tell them to end: most would not notice that their connection is gone.
//
//	defer commands.Add(command)()
//	commands.End(ctx, func(c *command) { c.signal("TERM") })
package running

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Command is a command that may run.
type Command interface {
	comparable
	// Ended is closed when the command has ended.
	Ended() <-chan struct{}
}

// Set is the commands of one connection. Its zero value is empty. It is safe for
// concurrent use.
type Set[C Command] struct {
	mu       sync.Mutex // guards what follows
	commands map[C]struct{}
}

// Add keeps a command until remove is called.
func (s *Set[C]) Add(command C) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.commands == nil {
		s.commands = map[C]struct{}{}
	}
	s.commands[command] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.commands, command)
	}
}

// End signals every command, and waits until all have ended or the context has. It
// does not wait for a signal to return.
func (s *Set[C]) End(ctx context.Context, signal func(C)) {
	s.mu.Lock()
	commands := slices.Collect(maps.Keys(s.commands))
	s.mu.Unlock()
	for _, command := range commands {
		go signal(command)
	}
	for _, command := range commands {
		select {
		case <-command.Ended():
		case <-ctx.Done():
			return
		}
	}
}
