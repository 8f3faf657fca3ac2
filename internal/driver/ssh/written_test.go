package ssh

import (
	"net"
	"testing"
)

// The server may have read what is being written, and run it, before Write returns.
func TestWhatIsBeingWrittenCountsAsWritten(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	wire := &transport{Conn: near}
	const request = "a command"
	returned := make(chan error, 1)
	go func() {
		_, err := wire.Write([]byte(request))
		returned <- err
	}()
	if _, err := far.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if wire.written.Load() == 0 {
		t.Error("nothing counts while the other side reads it")
	}
	_ = near.Close()
	if err := <-returned; err == nil {
		t.Error("half a write succeeded")
	}
	if n := wire.written.Load(); n != 1 {
		t.Errorf("%d bytes count, want the one that was read", n)
	}
}
