package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// dialBare makes a connection with the library alone: the least that any Go
// program would do, with the host key checked.
func dialBare(ctx context.Context, address, user string, privateKey []byte, hostKey ssh.PublicKey) (*ssh.Client, error) {
	signer, err := ssh.ParsePrivateKey(privateKey)
	if err != nil {
		return nil, fmt.Errorf("parse the private key: %w", err)
	}
	transport, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := ssh.NewClientConn(transport, address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(hostKey), HostKeyAlgorithms: []string{hostKey.Type()},
	})
	if err != nil {
		_ = transport.Close()
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return ssh.NewClient(conn, channels, requests), nil
}

func newSigner() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// runBare runs a command in a new session of a warm connection.
func runBare(client *ssh.Client, command string) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close() //nolint:errcheck // it has ended
	return session.Run(command)
}
