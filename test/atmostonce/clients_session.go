package atmostonce

import (
	"context"
	"sync"

	"github.com/connpool/connpool/client"
)

// SessionClients returns clients that send commands to sessions, by our Go client.
func (p Pool) SessionClients(prefix string) ([]Client, error) {
	c, err := client.New(p.Config)
	if err != nil {
		return nil, err
	}
	sessions := &sessions{client: c, pool: p}
	return []Client{
		{prefix + "Session.Exec", sessions.exec, sessions.close},
		{prefix + "Session.Stream", sessions.stream, sessions.close},
	}, nil
}

// sessions opens sessions and keeps those that no command uses.
type sessions struct {
	client *client.Client
	pool   Pool

	mu   sync.Mutex
	free []*client.Session
}

func (s *sessions) exec(ctx context.Context, shell string) Report {
	return s.run(ctx, func(session *client.Session) (client.Result, []byte, error) {
		result, err := session.Exec(ctx, client.Command{Shell: inSubshell(shell)})
		return result, result.Stdout, err
	})
}

func (s *sessions) stream(ctx context.Context, shell string) Report {
	return s.run(ctx, func(session *client.Session) (client.Result, []byte, error) {
		var output buffer
		result, err := session.Stream(ctx, client.Command{Shell: inSubshell(shell)}, client.Streams{Stdout: &output})
		return result, output.bytes(), err
	})
}

// inSubshell keeps a command that exits from ending the session.
func inSubshell(shell string) string { return "(" + shell + ")" }

// run runs a command in a free session, or in a new one. A session whose command has
// not completed is not used again.
func (s *sessions) run(ctx context.Context, in func(*client.Session) (client.Result, []byte, error)) Report {
	session, err := s.take(ctx)
	if err != nil {
		return notStarted(err) // the session may exist, but the command was not sent
	}
	result, output, err := in(session)
	report := clientReport(result, output, err)
	if report.Err == nil || result.ExitCode >= 0 {
		s.give(session)
	}
	return report
}

func (s *sessions) take(ctx context.Context) (*client.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.free) - 1; last >= 0 {
		session := s.free[last]
		s.free = s.free[:last]
		return session, nil
	}
	return s.client.NewSession(ctx, s.pool.Namespace, s.pool.Name, client.SessionOptions{
		Container: s.pool.Container, Pod: s.pool.Pod,
	})
}

func (s *sessions) give(session *client.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, session)
}

// close deletes the free sessions.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.free {
		_ = session.Delete(context.Background()) // it may have ended with its connection
	}
	s.free = nil
	s.client.CloseIdleConnections()
}
