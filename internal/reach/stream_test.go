package reach

import (
	"net"
	"testing"
)

// half is a stream that can end one direction.
type half struct {
	net.Conn
	ended bool
}

// CloseWrite notes that the direction has ended.
func (h *half) CloseWrite() error {
	h.ended = true
	return nil
}

func TestAStreamThroughAJumpHostCanEndOneDirection(t *testing.T) {
	open := &half{}
	conn := net.Conn(&stream{Conn: open, release: func() { t.Error("gave its lease back") }})
	ender, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("it cannot")
	}
	if err := ender.CloseWrite(); err != nil || !open.ended {
		t.Errorf("ended %v, error %v", open.ended, err)
	}
}
