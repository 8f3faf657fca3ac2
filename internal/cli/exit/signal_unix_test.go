//go:build unix

package exit

import (
	"os/signal"
	"syscall"
	"testing"
	"time"
)

func TestNohupKeepsACommandFromTheEndOfItsTerminal(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	ctx, stop := UntilSignal(t.Context())
	defer stop()
	for _, sent := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := syscall.Kill(syscall.Getpid(), sent); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM does not end it")
	}
	if got := SignalOf(ctx); got.Name != "TERM" {
		t.Errorf("it ended by SIG%s", got.Name)
	}
}
