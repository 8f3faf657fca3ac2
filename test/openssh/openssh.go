// Package openssh starts a real OpenSSH server for tests, benchmarks and the
// development lab, and breaks it on demand.
//
//	server, err := openssh.Start(ctx, openssh.Options{})
//	defer server.Stop()
//	// dial server.Addr as server.User with server.PrivateKey
//
// The server listens on a loopback address, keeps its keys, configuration and log in a
// directory of its own, and changes no file of the user. If it is started by an
// ordinary user, only that user can log in. If it is started by root, any user can, see
// CreateUser. Breaking it (Freeze, KillConnections, StopListener) reads /proc, so that
// part needs Linux. Commands run in the user's login shell, with what it sources: of bash
// that is not ~/.bashrc, which can take longer than a test waits. Benchmarks should use a
// user with a plain shell.
package openssh

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// startTimeout bounds how long sshd may take to accept connections.
const startTimeout = 10 * time.Second

// Options change what Start does. The zero value is a working server.
type Options struct {
	// Address to listen on; 127.0.0.1 and a free port when empty.
	Address string
	// User is the user who may log in; the current user when empty. Another user needs
	// root.
	User string
	// Dir holds keys, configuration and log; a temporary directory that Stop removes when
	// empty.
	Dir string
	// HostKeys prove the server's identity; a new ed25519 and a new ECDSA key when empty.
	HostKeys []crypto.PrivateKey
	// Config holds further lines of sshd_config. They come first, and sshd takes the
	// first value of a keyword.
	Config []string
}

// Server is a running OpenSSH server.
type Server struct {
	// Addr is the host and port it listens on.
	Addr string
	// User is the user who may log in with PrivateKey.
	User string
	// Dir holds its files; sshd.log is its log.
	Dir string
	// HostKey is the first of its public host keys.
	HostKey ssh.PublicKey
	// KnownHosts pins HostKey for Addr, in known_hosts syntax.
	KnownHosts string
	// PrivateKey logs in User; PEM, in OpenSSH's format.
	PrivateKey []byte

	sshd      string
	temporary bool

	mu       sync.Mutex
	listener *process
	orphans  []int
}

// Start starts a server and returns when it accepts connections. It runs until
// Stop. The context bounds the start only.
func Start(ctx context.Context, options Options) (*Server, error) {
	sshd, err := find()
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: options.Address, User: options.User, Dir: options.Dir, sshd: sshd}
	if err := s.complete(); err != nil {
		return nil, err
	}
	if err := s.write(options); err != nil {
		s.removeDir()
		return nil, err
	}
	if err := s.Restart(ctx); err != nil {
		s.removeDir()
		return nil, err
	}
	return s, nil
}

// Installed reports whether this machine has an sshd to start.
func Installed() bool {
	_, err := find()
	return err == nil
}

func find() (string, error) {
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path) // sshd executes itself, and needs an absolute path
		}
	}
	return "", errors.New("sshd is not installed: install the package openssh-server " +
		"(called openssh on Alpine and Arch)")
}

func (s *Server) complete() (err error) {
	if s.Addr == "" {
		if s.Addr, err = freeAddress(); err != nil {
			return err
		}
	}
	if s.User == "" {
		current, err := user.Current()
		if err != nil {
			return fmt.Errorf("find the current user: %w", err)
		}
		s.User = current.Username
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { //nolint:gosec // sshd demands this mode
			return fmt.Errorf("make sshd's privilege separation directory: %w", err)
		}
	}
	if s.Dir != "" {
		return os.MkdirAll(s.Dir, 0o711) //nolint:gosec // see below
	}
	s.temporary = true
	if s.Dir, err = os.MkdirTemp("", "connpool-sshd-"); err != nil {
		return err
	}
	// sshd reads authorized_keys as the user who logs in.
	return os.Chmod(s.Dir, 0o711) //nolint:gosec // what is secret in there has a mode of its own
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// write makes the keys and the configuration.
func (s *Server) write(options Options) error {
	hostKeys := options.HostKeys
	if len(hostKeys) == 0 {
		var err error
		if hostKeys, err = newHostKeys(); err != nil {
			return err
		}
	}
	config := new(bytes.Buffer)
	for _, line := range options.Config {
		fmt.Fprintln(config, line)
	}
	for i, key := range hostKeys {
		path := s.path(fmt.Sprintf("host_key_%d", i))
		if err := writeKey(path, key); err != nil {
			return err
		}
		fmt.Fprintln(config, "HostKey", path)
	}
	if err := s.pin(hostKeys[0]); err != nil {
		return err
	}
	if err := s.writeUserKey(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	fmt.Fprintf(config, baseConfig, host, port, s.path("authorized_keys"))
	return os.WriteFile(s.path("sshd_config"), config.Bytes(), 0o600)
}

// baseConfig is a format for the host, the port and the file of authorized keys. A bash
// that sshd starts reads ~/.bashrc, unless it is inside of another shell.
const baseConfig = `ListenAddress %s
Port %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PermitUserEnvironment no
AcceptEnv *
SetEnv SHLVL=2
MaxStartups 200
LogLevel VERBOSE
Subsystem sftp internal-sftp
`

func newHostKeys() ([]crypto.PrivateKey, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return []crypto.PrivateKey{ed, ec}, nil
}

func writeKey(path string, key crypto.PrivateKey) error {
	block, err := ssh.MarshalPrivateKey(key, "connpool test")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func (s *Server) pin(hostKey crypto.PrivateKey) error {
	signer, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		return fmt.Errorf("use the host key: %w", err)
	}
	s.HostKey = signer.PublicKey()
	s.KnownHosts = knownhosts.Line([]string{s.Addr}, s.HostKey)
	return nil
}

func (s *Server) writeUserKey() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	path := s.path("user_key")
	if err := writeKey(path, private); err != nil {
		return err
	}
	if s.PrivateKey, err = os.ReadFile(path); err != nil {
		return err
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path("authorized_keys"), ssh.MarshalAuthorizedKey(authorized), 0o644) //nolint:gosec // public
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

// Authorize adds a public key with which User may log in.
func (s *Server) Authorize(key ssh.PublicKey) error {
	file, err := os.OpenFile(s.path("authorized_keys"), os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // public
	if err != nil {
		return err
	}
	_, err = file.Write(ssh.MarshalAuthorizedKey(key))
	return errors.Join(err, file.Close())
}

// Log returns what sshd has logged so far.
func (s *Server) Log() string {
	log, err := os.ReadFile(s.path("sshd.log"))
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// Restart starts the listener on the same address after StopListener, with the
// same keys and the configuration as it now stands in Dir.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	listener, err := s.launch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.await(ctx, listener); err != nil {
		listener.kill()
		return err
	}
	s.listener = listener
	return nil
}

func (s *Server) launch() (*process, error) {
	log, err := os.OpenFile(s.path("sshd.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd := exec.Command(s.sshd, "-D", "-e", "-f", s.path("sshd_config"))
	cmd.Stderr = log
	// A process group of its own, so that Ctrl-C in a terminal does not end sshd before
	// the process that started it calls Stop.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sshd: %w", err)
	}
	return watch(cmd), nil
}

// await returns when the listener greets, or an error with its log when it has died.
func (s *Server) await(ctx context.Context, listener *process) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !s.greets(ctx) {
		select {
		case <-listener.exited:
			return fmt.Errorf("sshd ended at once; its log: %s", strings.TrimSpace(s.Log()))
		case <-ctx.Done():
			return fmt.Errorf("wait for sshd on %s: %w; its log: %s", s.Addr, ctx.Err(), s.Log())
		case <-ticker.C:
		}
	}
	select {
	case <-listener.exited: // another server has the port
		return fmt.Errorf("sshd ended at once; its log: %s", strings.TrimSpace(s.Log()))
	default:
		return nil
	}
}

func (s *Server) greets(ctx context.Context) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	greeting := make([]byte, 4)
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, err = conn.Read(greeting)
	return err == nil && string(greeting) == "SSH-"
}

// Stop ends the server, its connections and what runs on them. Later calls do
// nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := hold(s.processes)
	if s.listener != nil {
		s.listener.kill()
		s.listener = nil
	}
	signalAll(pids, syscall.SIGKILL)
	s.orphans = nil
	s.removeDir()
}

func (s *Server) removeDir() {
	if s.temporary {
		_ = os.RemoveAll(s.Dir)
	}
}
