package ssh

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// The server may have read what is being written, and run it, before Write returns.
func TestWhatIsBeingWrittenCountsAsWritten(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	wire := &transport{Conn: near, wake: func() {}}
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

// unanswering is a client whose reader has ended: it waits for an answer that does not
// come before the test is over.
type unanswering struct {
	ssh.Conn

	asked, over chan struct{}
}

// OpenChannel implements ssh.Conn.
func (u unanswering) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	u.asked <- struct{}{}
	<-u.over
	return nil, nil, net.ErrClosed
}

func TestARequestForAChannelEndsWithItsConnection(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := newConn(&dialer{options: Options{StageTimeout: time.Hour}}, &transport{Conn: near})
	client := unanswering{asked: make(chan struct{}), over: make(chan struct{})}
	defer close(client.over)
	c.client = client
	opening := c.spare.replenish()
	forwarding := make(chan error, 1)
	go func() {
		_, err := c.Forward(context.Background(), "tcp", "127.0.0.1:1")
		forwarding <- err
	}()
	<-client.asked
	<-client.asked
	c.end(errors.New("the server has gone"))
	<-opening.done
	for operation, err := range map[string]error{"a session": opening.err, "a forward": <-forwarding} {
		if failed, ok := driver.Classified(err); !ok || failed.Started {
			t.Errorf("%s: %v, want a classified error that proves that nothing started", operation, err)
		}
	}
}
