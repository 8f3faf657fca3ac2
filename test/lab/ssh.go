package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/test/openssh"
	"github.com/connpool/connpool/test/sshserver"
)

// access is what a client needs to log in.
type access struct {
	// Kind names the server's software.
	Kind       string
	Addr       string
	User       string
	PrivateKey string
	HostKey    string // one public key
	KnownHosts string // the same as known_hosts lines
}

// sshServer is the machine's sshd, or an embedded server where there is none.
type sshServer interface {
	access() access
	goAway()
	comeBack(context.Context) error
	stop()
}

func newSSHServer(ctx context.Context, dir string, options Options) (sshServer, error) {
	address := ""
	if options.SSHPort != 0 {
		address = net.JoinHostPort(loopback, strconv.Itoa(options.SSHPort))
	}
	if options.EmbeddedSSH || !openssh.Installed() {
		server, err := startEmbedded(sshserver.Options{Address: address, AuthorizedKeys: filepath.Join(dir, "authorized_keys")})
		if err != nil {
			return nil, err
		}
		return server, os.WriteFile(filepath.Join(dir, "user_key"), server.server.PrivateKey, 0o600) // as sshd's
	}
	server, err := openssh.Start(ctx, openssh.Options{Address: address, Dir: dir})
	if err != nil {
		return nil, err
	}
	return daemon{server}, nil
}

// daemon is the machine's sshd.
type daemon struct{ server *openssh.Server }

func (d daemon) access() access {
	return access{
		Kind:       "sshd of this machine",
		Addr:       d.server.Addr,
		User:       d.server.User,
		PrivateKey: string(d.server.PrivateKey),
		HostKey:    line(d.server.HostKey),
		KnownHosts: d.server.KnownHosts,
	}
}

func (d daemon) stop()                              { d.server.Stop() }
func (d daemon) comeBack(ctx context.Context) error { return d.server.Restart(ctx) }

func (d daemon) goAway() {
	d.server.StopListener()
	d.server.KillConnections()
}

// embedded is an SSH server in this process.
type embedded struct {
	options sshserver.Options
	server  *sshserver.Server
	away    bool
}

func startEmbedded(options sshserver.Options) (*embedded, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if options.HostKey, err = ssh.NewSignerFromKey(private); err != nil {
		return nil, err
	}
	server, err := sshserver.Start(options)
	if err != nil {
		return nil, err
	}
	options.Address, options.PrivateKey = server.Addr, server.PrivateKey // it comes back with the same identity
	return &embedded{options: options, server: server}, nil
}

func (e *embedded) access() access {
	name := "lab"
	if current, err := user.Current(); err == nil {
		name = current.Username
	}
	return access{
		Kind:       "an embedded SSH server",
		Addr:       e.server.Addr,
		User:       name,
		PrivateKey: string(e.server.PrivateKey),
		HostKey:    line(e.server.HostKey),
		KnownHosts: e.server.KnownHosts,
	}
}

func (e *embedded) stop() { e.server.Close() }

func (e *embedded) goAway() {
	e.server.Close()
	e.away = true
}

func (e *embedded) comeBack(context.Context) error {
	if !e.away {
		return nil
	}
	server, err := sshserver.Start(e.options)
	if err != nil {
		return err
	}
	e.server, e.away = server, false
	return nil
}

func line(key ssh.PublicKey) string { return string(ssh.MarshalAuthorizedKey(key)) }
