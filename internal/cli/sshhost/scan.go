package sshhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/cli/display"
)

// keyKinds are the kinds of host keys to ask for, the best first, each with the
// algorithms that prove it. A server shows one key in each handshake.
var keyKinds = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// Scan is what a host answered.
type Scan struct {
	// Address is the IP and port that answered.
	Address string
	// Server is what it calls itself; "" if it does not say.
	Server string
	// Keys are those that it proved to own, the best type first.
	Keys []ssh.PublicKey
}

// DialFunc makes a connection to a host. A net.Dialer's DialContext is one.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// FromHere dials from the user's machine.
func FromHere(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, &DialError{err: plainDialError(err)}
	}
	return conn, nil
}

// DialError says that a host could not be reached from where it was dialed. Its keys may
// be right nevertheless.
type DialError struct{ err error }

func (e *DialError) Error() string { return e.err.Error() }

func (e *DialError) Unwrap() error { return e.err }

// errBusy says that the server takes no more connections for now.
var errBusy = errors.New(`it accepts no more connections for now, and said "Exceeded MaxStartups": try again, or with a longer --timeout`)

// errSeen ends a handshake when the key is seen, long before the client would log in.
var errSeen = errors.New("the host key is seen")

// ScanHost asks a host for its keys, one handshake for each kind, and never logs in. The
// handshakes follow each other, because servers limit how many may go on at once from one
// address. The timeout is that of each.
func ScanHost(ctx context.Context, dial DialFunc, address string, timeout time.Duration) (Scan, error) {
	var all Scan
	for _, algorithms := range keyKinds {
		scan, err := scanWithin(ctx, dial, address, algorithms, timeout)
		if err != nil {
			// A scan that leaves out a key looks complete, which is worse than no scan.
			return all, fmt.Errorf("scan %s: %w", address, err)
		}
		all.Address, all.Server = scan.Address, scan.Server
		all.Keys = append(all.Keys, scan.Keys...)
	}
	if len(all.Keys) == 0 {
		return all, fmt.Errorf("scan %s: it has no ed25519, ECDSA or RSA key: give it an ed25519 key (ssh-keygen -A)", address)
	}
	return all, nil
}

// busyPause is the wait before a server is asked again that takes no more connections for
// a moment. It may not have noticed yet that the handshake before has ended.
const busyPause = 250 * time.Millisecond

// scanWithin makes one handshake, and another as long as the server is busy.
func scanWithin(
	ctx context.Context, dial DialFunc, address string, algorithms []string, timeout time.Duration,
) (Scan, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		scan, err := scanKind(ctx, dial, address, algorithms)
		if !errors.Is(err, errBusy) {
			return scan, err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return scan, err
		}
	}
}

// scanKind makes one handshake. A server without a key of this kind is not an error.
func scanKind(ctx context.Context, dial DialFunc, address string, algorithms []string) (Scan, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return Scan{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	scan := Scan{Address: conn.RemoteAddr().String()}
	banner := &bannerConn{Conn: conn}
	supported := ssh.SupportedAlgorithms()
	_, _, _, err = ssh.NewClientConn(banner, address, &ssh.ClientConfig{ //nolint:dogsled // the handshake fails on purpose
		Config:            ssh.Config{KeyExchanges: supported.KeyExchanges, Ciphers: supported.Ciphers, MACs: supported.MACs},
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			scan.Keys = append(scan.Keys, key)
			return errSeen
		},
	})
	scan.Server = banner.version()
	switch {
	case len(scan.Keys) > 0 || isNoCommonKey(err):
		return scan, nil
	case ctx.Err() != nil:
		return scan, errors.New("it accepted the connection, but did not answer in time")
	case strings.Contains(banner.said(), "Exceeded MaxStartups"):
		return scan, errBusy
	case scan.Server == "" && banner.said() != "":
		return scan, fmt.Errorf("it does not speak SSH, but said %q: is the port right?", banner.said())
	}
	return scan, fmt.Errorf("it does not speak SSH as it should: %w", err)
}

func isNoCommonKey(err error) bool {
	none, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	return ok && strings.Contains(none.Error(), "host key")
}

// plainDialError drops the part of an error that repeats what was dialed.
func plainDialError(err error) error {
	operation, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	if operation.Timeout() {
		return errors.New("nothing answered in time: is the port right, and does a firewall let you through?")
	}
	return operation.Err
}

// bannerConn remembers the first line that a server sends.
type bannerConn struct {
	net.Conn

	mu    sync.Mutex
	first []byte
}

// maxBanner is the longest line that SSH allows.
const maxBanner = 255

func (b *bannerConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first = append(b.first, p[:min(n, maxBanner-len(b.first))]...)
	return n, err
}

// version returns what the server calls itself.
func (b *bannerConn) version() string {
	line := b.said()
	if !strings.HasPrefix(line, "SSH-") {
		return ""
	}
	return line
}

// said returns the first line of the server.
func (b *bannerConn) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	line, _, _ := strings.Cut(string(b.first), "\n")
	return display.OneLine(strings.TrimSpace(line))
}
