// Package sshserver is an SSH server inside the calling process, for machines
// without sshd and for tests with thousands of connections.
//
//	server, err := sshserver.Start(sshserver.Options{})
//	defer server.Close()
//	// dial server.Addr with server.PrivateKey, as any user
//
// It authenticates its clients and, unless Options.Handler answers in process, runs
// commands with /bin/sh as the user of the process. It is not a security boundary, so
// it belongs on loopback. Commands get environment, signals and pseudo terminals. TCP
// and unix sockets are forwarded in both directions, and sftp is served. Compared with
// OpenSSH (package openssh) it starts in milliseconds and costs about 30 KiB for each
// idle connection, but it proves nothing about OpenSSH.
package sshserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Options change what Start does. The zero value is a working server.
type Options struct {
	// Address to listen on; 127.0.0.1 and a free port when empty.
	Address string
	// HostKey proves the server's identity; a new ed25519 key when nil.
	HostKey ssh.Signer
	// User is the only user who may log in; any user when empty.
	User string
	// PrivateKey is the key with which clients log in; PEM, without a passphrase. A new
	// ed25519 key when nil.
	PrivateKey []byte
	// AuthorizedKeys is a file of further keys with which clients may log in, in the
	// syntax of authorized_keys; none when empty. It is read at each login.
	AuthorizedKeys string
	// Password is accepted besides the key, when not empty.
	Password string
	// Handler answers commands in process instead of /bin/sh.
	Handler Handler
	// MaxSessions bounds the session channels of one connection; 0 means unbounded.
	MaxSessions int
	// ForwardOnly makes it a bastion that does not know session channels.
	ForwardOnly bool
}

// Handler runs one command and returns its exit code. The context ends when the
// client cancels the command or goes away.
type Handler func(ctx context.Context, command Command) int

// Command is what a client asked to run.
type Command struct {
	User   string
	Line   string // empty for a shell
	Env    []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Server is a running server.
type Server struct {
	// Addr is the host and port it listens on.
	Addr string
	// PrivateKey is the key with which clients log in; PEM.
	PrivateKey []byte
	// HostKey is its public host key.
	HostKey ssh.PublicKey
	// KnownHosts pins HostKey for Addr, in known_hosts syntax.
	KnownHosts string

	options  Options
	config   *ssh.ServerConfig
	listener net.Listener
	serving  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// Start starts a server that runs until Close.
func Start(options Options) (*Server, error) {
	s := &Server{options: options, conns: map[net.Conn]struct{}{}}
	if err := s.configure(); err != nil {
		return nil, err
	}
	address := options.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for SSH: %w", err)
	}
	s.listener, s.Addr = listener, listener.Addr().String()
	s.KnownHosts = knownhosts.Line([]string{s.Addr}, s.HostKey)
	s.serving.Go(s.accept)
	return s, nil
}

func (s *Server) configure() error {
	hostKey := s.options.HostKey
	if hostKey == nil {
		var err error
		if hostKey, err = newHostKey(); err != nil {
			return err
		}
	}
	s.HostKey = hostKey.PublicKey()
	if s.PrivateKey = s.options.PrivateKey; s.PrivateKey == nil {
		var err error
		if s.PrivateKey, err = newPrivateKey(); err != nil {
			return err
		}
	}
	user, err := ssh.ParsePrivateKey(s.PrivateKey)
	if err != nil {
		return fmt.Errorf("parse the user's key: %w", err)
	}
	s.config = s.serverConfig(user.PublicKey())
	s.config.AddHostKey(hostKey)
	return nil
}

func newHostKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

func newPrivateKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "connpool test")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

var errRefused = errors.New("refused")

func (s *Server) serverConfig(authorized ssh.PublicKey) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-connpool_test",
		PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if s.isInFile(key) {
				return nil, s.admit(conn.User(), "", "")
			}
			return nil, s.admit(conn.User(), string(key.Marshal()), string(authorized.Marshal()))
		},
	}
	if s.options.Password != "" {
		config.PasswordCallback = func(conn ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, s.admit(conn.User(), string(password), s.options.Password)
		}
	}
	return config
}

// isInFile reports whether the file of authorized keys has the key.
func (s *Server) isInFile(key ssh.PublicKey) bool {
	rest, err := os.ReadFile(s.options.AuthorizedKeys)
	for err == nil && len(rest) > 0 {
		var authorized ssh.PublicKey
		if authorized, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err == nil && bytes.Equal(authorized.Marshal(), key.Marshal()) {
			return true
		}
	}
	return false
}

func (s *Server) admit(user, offered, accepted string) error {
	right := subtle.ConstantTimeCompare([]byte(offered), []byte(accepted)) == 1
	if right && (s.options.User == "" || s.options.User == user) {
		return nil
	}
	return errRefused
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.track(conn) {
			return
		}
		s.serving.Go(func() {
			defer s.forget(conn)
			s.serve(conn)
		})
	}
}

func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// Connections counts the connections, authenticated or not.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// KillConnections cuts all connections; the server goes on listening.
func (s *Server) KillConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// Close ends the server, its connections and their commands, and returns when
// all have ended.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.KillConnections()
	s.serving.Wait()
}

// serve returns when the connection and everything on it has ended.
func (s *Server) serve(transport net.Conn) {
	server, channels, requests, err := ssh.NewServerConn(transport, s.config)
	if err != nil {
		return
	}
	c := &connection{server: s, conn: server, listeners: map[string]net.Listener{}}
	c.running.Go(func() { c.answer(requests) })
	for channel := range channels {
		c.open(channel)
	}
	c.closeListeners()
	c.running.Wait()
}

// connection is one authenticated client.
type connection struct {
	server  *Server
	conn    *ssh.ServerConn
	running sync.WaitGroup

	mu        sync.Mutex
	sessions  int
	listeners map[string]net.Listener
}

func (c *connection) open(channel ssh.NewChannel) {
	switch channel.ChannelType() {
	case "session":
		c.openSession(channel)
	case "direct-tcpip":
		c.running.Go(func() { connect(channel, "tcp", tcpTarget(channel.ExtraData())) })
	case "direct-streamlocal@openssh.com":
		c.running.Go(func() { connect(channel, "unix", unixTarget(channel.ExtraData())) })
	default:
		_ = channel.Reject(ssh.UnknownChannelType, "not served")
	}
}

func (c *connection) openSession(channel ssh.NewChannel) {
	if c.server.options.ForwardOnly {
		_ = channel.Reject(ssh.UnknownChannelType, "unknown channel type")
		return
	}
	if !c.countSession() {
		_ = channel.Reject(ssh.ResourceShortage, "no more sessions")
		return
	}
	accepted, requests, err := channel.Accept()
	if err != nil {
		c.releaseSession()
		return
	}
	c.running.Go(func() {
		defer c.releaseSession()
		newSession(c, accepted).serve(requests)
	})
}

func (c *connection) countSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.server.options.MaxSessions
	if limit > 0 && c.sessions >= limit {
		return false
	}
	c.sessions++
	return true
}

func (c *connection) releaseSession() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions--
}
