package hostile

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	live "github.com/connpool/connpool/client"
)

// byServers are the attacks by the SSH servers that a tenant has added as targets.
func byServers() []attack {
	return []attack{
		{"a server that opens channels", "20,000 channels", serverDoes(openChannels)},
		{"a server that asks", "50,000 global requests", serverDoes(askForEver)},
		{"a server's output without an end", "8 commands, and 200 that are not read", floodedCommands},
		{"a server's banner without an end", "gigabytes before the version", endlessBanner},
	}
}

// serverDoes makes a target of a server that does this on each connection.
func serverDoes(attack func(ssh.Conn)) func(*testing.T, tenant) {
	return func(t *testing.T, attacker tenant) {
		refuse := func(channel ssh.NewChannel) { _ = channel.Reject(ssh.Prohibited, "no") }
		addServer(t, attacker, attack, refuse)
		meanwhile(t)
	}
}

// addServer makes the target and the pool evil, of a server that does this on each
// connection and that serves each channel so.
func addServer(t *testing.T, attacker tenant, attack func(ssh.Conn), serve func(ssh.NewChannel)) {
	t.Helper()
	signer, err := ssh.NewSignerFromSigner(newPrivateKey(t))
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	address := listen(t, "tcp", "127.0.0.1:0", func(raw net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(raw, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		go func() {
			for channel := range channels {
				go serve(channel)
			}
		}()
		attack(conn)
	})
	attacker.secret(t, "login", login(plainKey(t)))
	pool := attacker.poolOf("evil", "evil")
	pool.Spec.SessionsPerConnection = new(int32(100))
	attacker.create(t, attacker.sshTarget("evil", address, knownhosts.Line([]string{address}, signer.PublicKey()), "me"), pool)
}

// listen serves connections until the test ends, each for a minute at most.
func listen(t *testing.T, network, address string, serve func(net.Conn)) (listening string) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func openChannels(conn ssh.Conn) {
	extra := make([]byte, 1<<10)
	for range 20_000 {
		go func() { _, _, _ = conn.OpenChannel("forwarded-tcpip", extra) }()
	}
	_ = conn.Wait()
}

func askForEver(conn ssh.Conn) {
	for range 50_000 {
		if _, _, err := conn.SendRequest("hostkeys-00@openssh.com", false, make([]byte, 1<<10)); err != nil {
			return
		}
	}
	_ = conn.Wait()
}

func endlessBanner(t *testing.T, attacker tenant) {
	address := listen(t, "tcp", "127.0.0.1:0", func(raw net.Conn) {
		for {
			if _, err := raw.Write(append(make([]byte, 200), '\r', '\n')); err != nil {
				return
			}
		}
	})
	attacker.secret(t, "login", login(plainKey(t)))
	known := knownhosts.Line([]string{address}, newKey(t))
	attacker.create(t, attacker.sshTarget("evil", address, known, "me"), attacker.poolOf("evil", "evil"))
	meanwhile(t)
}

// floodedCommands runs commands that print without an end.
func floodedCommands(t *testing.T, attacker tenant) {
	addServer(t, attacker, func(conn ssh.Conn) { _ = conn.Wait() }, floodSession)
	attacker.ready(t, "evil", 30*time.Second)
	pool := attacker.client(t).Pool(attacker.namespace, "evil")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 8 {
		go func() { _, _ = pool.Exec(ctx, live.Command{Argv: []string{"true"}}) }()
	}
	for range 200 {
		go func() {
			_, _ = pool.Stream(ctx, live.Command{Argv: []string{"true"}}, live.Streams{Stdout: stuck{ctx}, Stderr: stuck{ctx}})
		}()
	}
	meanwhile(t)
}

// floodSession starts every command, and prints on both outputs for ever.
func floodSession(offer ssh.NewChannel) {
	channel, requests, err := offer.Accept()
	if err != nil {
		return
	}
	for request := range requests {
		if request.WantReply {
			_ = request.Reply(true, nil)
		}
		if request.Type == "exec" {
			go func() { _, _ = io.Copy(channel, letters{}) }()
			go func() { _, _ = io.Copy(channel.Stderr(), letters{}) }()
		}
	}
}
