package lab

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// By these signals other processes tell a lab what to do with its SSH server.
const (
	stopSSH  = syscall.SIGUSR1
	startSSH = syscall.SIGUSR2
)

// obey carries out what other processes ask for, until the returned function is
// called.
func (l *Lab) obey(ctx context.Context) (stop func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, stopSSH, startSSH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for what := range asked {
			l.carryOut(ctx, what)
		}
	}()
	return func() {
		signal.Stop(asked)
		close(asked)
		<-done
	}
}

func (l *Lab) carryOut(ctx context.Context, what os.Signal) {
	if what == stopSSH {
		l.StopSSH()
		return
	}
	if err := l.StartSSH(ctx); err != nil {
		l.say("start the SSH server again: %v", err)
	}
}

// untilEnded returns a context that ends when the process is asked to end or,
// for a process of the foreground, when its parent has gone: make and go run
// pass Ctrl-C on, but no other signal.
func untilEnded(ctx context.Context, foreground bool) (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if foreground {
		go cancelWithParent(ctx, os.Getppid(), cancel)
	}
	return ctx, cancel
}

func cancelWithParent(ctx context.Context, parent int, cancel func()) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	cancel()
}
