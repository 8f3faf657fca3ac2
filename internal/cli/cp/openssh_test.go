package cp

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/test/netfault"
	"github.com/connpool/connpool/test/openssh"
)

// sftpOf returns the sftp subsystem of a real server.
func sftpOf(t *testing.T, server *openssh.Server) sftpclient.Subsystem {
	t.Helper()
	return sftpAt(t, server, server.Addr)
}

// sftpAt reaches the server by another address.
func sftpAt(t *testing.T, server *openssh.Server, address string) sftpclient.Subsystem {
	t.Helper()
	key, err := ssh.ParsePrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User: server.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(server.HostKey), HostKeyAlgorithms: []string{server.HostKey.Type()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		channel, requests, err := client.OpenChannel("session", nil)
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = channel.Close() })()
		go ssh.DiscardRequests(requests)
		if ok, err := channel.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); !ok {
			return fmt.Errorf("the subsystem is refused: %w", err)
		}
		go func() {
			_, _ = io.Copy(channel, stdin)
			_ = channel.CloseWrite()
		}()
		_, err = io.Copy(stdout, channel)
		return err
	}
}

func TestATreeGoesToOpenSSHAndComesBack(t *testing.T) {
	server, err := openssh.Start(t.Context(), openssh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	test := newCopyTest(t)
	put(t, test.local+"/tree/file", strings.Repeat("there and back ", 500_000), 0o640)
	put(t, test.local+"/tree/sub/run", "#!/bin/sh\n", 0o755)
	if err := os.Symlink("../file", test.local+"/tree/sub/link"); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{"-r", "L:tree", "R:tree"}, {"-r", "L:tree/.", "R:tree"}, {"-r", "R:tree", "L:back"}, {"R:tree/sub/link", "L:plain"},
	} {
		if err := test.run(t, sftpOf(t, server), words...); err != nil {
			t.Fatalf("cp %v: %v, %s", words, err, &test.problem)
		}
	}
	if diff := cmp.Diff(listing(t, test.local+"/tree"), listing(t, test.local+"/back")); diff != "" {
		t.Errorf("what came back (-want +got):\n%s", diff)
	}
	if info, err := os.Lstat(test.local + "/plain"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("a link that the user names is not followed: %v, %v", info, err)
	}
}

func TestAServerThatAllowsFewSessionsStillGetsLargeFilesFromFarAway(t *testing.T) {
	server, err := openssh.Start(t.Context(), openssh.Options{Config: []string{"MaxSessions 2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	proxy, err := netfault.Start(server.Addr, netfault.Options{RoundTrip: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	test := newCopyTest(t)
	put(t, test.local+"/large", strings.Repeat("0123456789abcde\n", 2<<20), 0o640)
	for _, words := range [][]string{{"L:large", "R:large"}, {"R:large", "L:back"}} {
		var starts atomic.Int64
		if err := test.run(t, counted(&starts, sftpAt(t, server, proxy.Addr)), words...); err != nil || starts.Load() != 4 {
			t.Fatalf("cp %v with %d streams: %v, %s", words, starts.Load(), err, &test.problem)
		}
	}
	all := listing(t, test.local)
	if all["large"] != all["back"] {
		t.Error("what came back is something else")
	}
}

func TestALoginOfOpenSSHThatPrintsIsQuoted(t *testing.T) {
	server, err := openssh.Start(t.Context(), openssh.Options{
		Config: []string{"ForceCommand echo Welcome to this host; exec /usr/lib/openssh/sftp-server"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	test := newCopyTest(t)
	put(t, test.local+"/a", "", 0o644)
	err = test.run(t, sftpOf(t, server), "L:a", "R:a")
	if err == nil || !strings.Contains(err.Error(), "Welcome to this host") || !strings.Contains(exit.HintOf(err), ".bashrc") {
		t.Errorf("error %v, want the greeting and the next step", err)
	}
}
