package lab

import (
	"net"
	"testing"

	"github.com/connpool/connpool/test/sshserver"
)

// TestTheEmbeddedServerComesBackAsTheSame is about machines without an sshd.
func TestTheEmbeddedServerComesBackAsTheSame(t *testing.T) {
	server, err := startEmbedded(sshserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	before := server.access()
	server.goAway()
	server.goAway() // once more does nothing
	if connection, err := net.Dial("tcp", before.Addr); err == nil {
		_ = connection.Close()
		t.Error("it accepts connections while it is away")
	}
	for range 2 { // once more does nothing
		if err := server.comeBack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if after := server.access(); after != before {
		t.Errorf("it came back as %v, want %v", after, before)
	}
	connection, err := net.Dial("tcp", before.Addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
}
