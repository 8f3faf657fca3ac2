package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/test/sshserver"
)

const (
	// roleFleet is a process with many SSH servers.
	roleFleet = "fleet"
	// serversEach is how many of them one process may have: each takes two descriptors.
	serversEach = 4000
)

// crew are hosts with the same user and the same keys.
type crew struct {
	User    string   `json:"user"`
	UserKey []byte   `json:"userKey"` // in PEM
	HostKey []byte   `json:"hostKey"` // in the wire format
	Addrs   []string `json:"addrs"`
}

// startCrews starts so many hosts, in as many processes as they need. stop ends those that
// have been started, also after an error.
func startCrews(ctx context.Context, count int) (crews []crew, stop func(), err error) {
	var players []*player
	stop = func() {
		for _, p := range players {
			p.stop()
		}
	}
	for first := 0; first < count; first += serversEach {
		p, err := startRole(ctx, roleFleet, strconv.Itoa(len(crews)), strconv.Itoa(min(serversEach, count-first)))
		if err != nil {
			return nil, stop, err
		}
		players = append(players, p)
		var c crew
		if err := p.read(&c); err != nil {
			return nil, stop, fmt.Errorf("start servers: %w", err)
		}
		crews = append(crews, c)
	}
	return crews, stop, nil
}

// serveFleet serves so many hosts on addresses of a network of their own until the input
// ends: "NETWORK COUNT". First it prints them.
func serveFleet(what string, input io.Reader, output io.Writer) error {
	var network, count int
	if _, err := fmt.Sscan(what, &network, &count); err != nil {
		return fmt.Errorf("serve a fleet of %q: %w", what, err)
	}
	key, err := newSigner()
	if err != nil {
		return err
	}
	c := crew{User: "bench", HostKey: key.PublicKey().Marshal()}
	var servers []*sshserver.Server
	defer func() {
		for _, server := range servers {
			server.Close()
		}
	}()
	for i := range count {
		server, err := startServer(sshserver.Options{
			Address: fmt.Sprintf("127.%d.%d.%d:0", 10+network, i/250, i%250+1), HostKey: key, PrivateKey: c.UserKey,
		})
		if err != nil {
			return err
		}
		servers = append(servers, server)
		c.UserKey, c.Addrs = server.PrivateKey, append(c.Addrs, server.Addr)
	}
	if err := json.NewEncoder(output).Encode(c); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, input)
	return err
}

// startServer starts a server whose every command succeeds without a process.
func startServer(options sshserver.Options) (*sshserver.Server, error) {
	options.Handler = func(context.Context, sshserver.Command) int { return 0 }
	return sshserver.Start(options)
}

// objects are the targets of these hosts, and their Secret.
func (c crew) objects(name string, label map[string]string) ([]client.Object, error) {
	hostKey, err := ssh.ParsePublicKey(c.HostKey)
	if err != nil {
		return nil, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hostKey)))
	objects := []client.Object{&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name,
			Labels: map[string]string{v1alpha1.CredentialsLabel: v1alpha1.CredentialsLabelValue},
		},
		Data: map[string][]byte{"ssh-privatekey": c.UserKey},
	}}
	for i, address := range c.Addrs {
		host, port := splitAddress(address)
		objects = append(objects, &v1alpha1.ConnectionTarget{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-host-%04d", name, i), Labels: label},
			Spec: v1alpha1.ConnectionTargetSpec{SSH: &v1alpha1.SSHTarget{
				Host: host, Port: &port, User: c.User, CredentialsRef: v1alpha1.SecretRef{Name: name},
				HostKeys: v1alpha1.HostKeys{KnownHosts: []string{line}},
			}},
		})
	}
	return objects, nil
}

func splitAddress(address string) (host string, port int32) {
	host, text, _ := net.SplitHostPort(address)
	number, _ := strconv.ParseInt(text, 10, 32)
	return host, int32(number)
}

// dialAll is the comparator: the handshakes alone, as many at once as the operator does.
func dialAll(ctx context.Context, crews []crew) (time.Duration, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dialsAtOnce)
	begin := time.Now()
	for _, c := range crews {
		hostKey, err := ssh.ParsePublicKey(c.HostKey)
		if err != nil {
			return 0, err
		}
		for _, address := range c.Addrs {
			group.Go(func() error {
				conn, err := dialBare(ctx, address, c.User, c.UserKey, hostKey)
				if err != nil {
					return err
				}
				return conn.Close()
			})
		}
	}
	err := group.Wait()
	return time.Since(begin), err
}
