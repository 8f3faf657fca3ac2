package sshserver

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// session is one session channel. Its requests arrive one at a time. Only the command
// itself runs at the same time.
type session struct {
	conn    *connection
	channel ssh.Channel
	env     []string
	window  *pty.Winsize // not nil once a terminal has been asked for
	term    string
	started bool
	run     func() // what the last request has started, once it is answered
	running sync.WaitGroup

	ctx    context.Context //nolint:containedctx // the life of the channel
	cancel context.CancelFunc

	mu       sync.Mutex
	process  *os.Process
	terminal *os.File
}

func newSession(conn *connection, channel ssh.Channel) *session {
	s := &session{conn: conn, channel: channel}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// serve returns when the channel is closed and its command has ended.
func (s *session) serve(requests <-chan *ssh.Request) {
	for request := range requests {
		ok := s.handle(request)
		if request.WantReply {
			_ = request.Reply(ok, nil)
		}
		if s.run != nil {
			s.running.Go(s.run)
			s.run = nil
		}
	}
	s.cancel()
	s.signal("KILL")
	s.running.Wait()
}

func (s *session) handle(request *ssh.Request) bool {
	switch request.Type {
	case "env":
		return s.setEnv(request.Payload)
	case "pty-req":
		return s.setTerminal(request.Payload)
	case "window-change":
		return s.resize(request.Payload)
	case "signal":
		return s.handleSignal(request.Payload)
	case "shell":
		return s.start("")
	case "exec":
		var exec struct{ Line string }
		return ssh.Unmarshal(request.Payload, &exec) == nil && s.start(exec.Line)
	case "subsystem":
		var subsystem struct{ Name string }
		return ssh.Unmarshal(request.Payload, &subsystem) == nil && s.startSubsystem(subsystem.Name)
	}
	return false
}

func (s *session) setEnv(payload []byte) bool {
	var env struct{ Name, Value string }
	if ssh.Unmarshal(payload, &env) != nil {
		return false
	}
	s.env = append(s.env, env.Name+"="+env.Value)
	return true
}

func (s *session) setTerminal(payload []byte) bool {
	var terminal struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(payload, &terminal) != nil {
		return false
	}
	s.term, s.window = terminal.Term, windowSize(terminal.Columns, terminal.Rows)
	return true
}

func windowSize(columns, rows uint32) *pty.Winsize {
	return &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}
}

func (s *session) resize(payload []byte) bool {
	var size struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &size) != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.terminal != nil && pty.Setsize(s.terminal, windowSize(size.Columns, size.Rows)) == nil
}

func (s *session) start(line string) bool {
	if s.started {
		return false
	}
	s.started = true
	if s.conn.server.options.Handler != nil {
		s.run = func() { s.runHandler(line) }
		return true
	}
	cmd := s.command(line)
	s.run = func() { s.runPlain(cmd) }
	if s.window != nil {
		s.run = func() { s.runTerminal(cmd) }
	}
	return true
}

func (s *session) runHandler(line string) {
	code := s.conn.server.options.Handler(s.ctx, Command{
		User: s.conn.conn.User(), Line: line, Env: s.env,
		Stdin: s.channel, Stdout: s.channel, Stderr: s.channel.Stderr(),
	})
	s.exit(code)
}

func (s *session) command(line string) *exec.Cmd {
	cmd := exec.Command("/bin/sh")
	if line != "" {
		cmd.Args = append(cmd.Args, "-c", line)
	}
	cmd.Env = append(os.Environ(), s.env...)
	return cmd
}

// runPlain runs a command without a terminal.
func (s *session) runPlain(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = s.channel, s.channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = s.begin(cmd, func() (*os.File, error) { return nil, cmd.Start() })
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.running.Go(func() {
		_, _ = io.Copy(stdin, s.channel)
		_ = stdin.Close()
	})
	s.exitWith(cmd.Wait())
}

func (s *session) runTerminal(cmd *exec.Cmd) {
	cmd.Env = append(cmd.Env, "TERM="+s.term)
	var terminal *os.File
	err := s.begin(cmd, func() (_ *os.File, err error) {
		terminal, err = pty.StartWithSize(cmd, s.window)
		return terminal, err
	})
	if err != nil {
		s.fail(err)
		return
	}
	s.running.Go(func() { _, _ = io.Copy(terminal, s.channel) })
	_, _ = io.Copy(s.channel, terminal) // ends when the last process closes it
	err = cmd.Wait()
	s.mu.Lock()
	s.terminal = nil
	s.mu.Unlock()
	_ = terminal.Close()
	s.exitWith(err)
}

// begin starts a command. It holds the lock meanwhile, so that a signal is sent to the
// command or comes before its start.
func (s *session) begin(cmd *exec.Cmd, start func() (*os.File, error)) error {
	s.mu.Lock()
	terminal, err := start()
	if err == nil {
		s.process, s.terminal = cmd.Process, terminal
	}
	s.mu.Unlock()
	if err == nil && s.ctx.Err() != nil {
		s.signal("KILL") // the client left while the command was starting
	}
	return err
}

func (s *session) startSubsystem(name string) bool {
	if s.started || name != "sftp" {
		return false
	}
	server, err := sftp.NewServer(s.channel)
	if err != nil {
		return false
	}
	s.started = true
	s.run = func() {
		err := server.Serve()
		if err == nil || errors.Is(err, io.EOF) {
			s.exit(0)
			return
		}
		s.exit(1)
	}
	return true
}

// signals are those of RFC 4254, section 6.10.
var signals = map[string]syscall.Signal{
	"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP,
	"ILL": syscall.SIGILL, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
	"QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1,
	"USR2": syscall.SIGUSR2,
}

func (s *session) handleSignal(payload []byte) bool {
	var message struct{ Name string }
	if ssh.Unmarshal(payload, &message) != nil {
		return false
	}
	if s.conn.server.options.Handler != nil {
		s.cancel()
	}
	return s.signal(message.Name)
}

func (s *session) signal(name string) bool {
	signal, ok := signals[name]
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return false
	}
	return syscall.Kill(-s.process.Pid, signal) == nil
}

func (s *session) fail(err error) {
	_, _ = io.WriteString(s.channel.Stderr(), err.Error()+"\n")
	s.exit(127)
}

func (s *session) exitWith(err error) {
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		s.exit(0)
		return
	}
	status, ok := failed.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		s.exit(failed.ExitCode())
		return
	}
	s.exitSignal(status.Signal())
}

func (s *session) exit(code int) {
	status := struct{ Code uint32 }{uint32(code)}
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(&status))
	_ = s.channel.Close()
}

func (s *session) exitSignal(ended syscall.Signal) {
	status := struct {
		Name     string
		Core     bool
		Error    string
		Language string
	}{Name: "KILL"}
	for name, signal := range signals {
		if signal == ended {
			status.Name = name
		}
	}
	_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(&status))
	_ = s.channel.Close()
}
