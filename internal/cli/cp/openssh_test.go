package cp

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/test/openssh"
)

// sftpOf returns the sftp subsystem of a real server.
func sftpOf(t *testing.T, server *openssh.Server) sftpclient.Subsystem {
	t.Helper()
	key, err := ssh.ParsePrivateKey(server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", server.Addr, &ssh.ClientConfig{
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
