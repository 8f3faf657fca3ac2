package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/connpool/connpool/client"
)

// terminal is the local terminal while a remote program has it: raw, so that
// every key goes there.
type terminal struct {
	file  *os.File
	state *term.State
	// size at first.
	size client.Size
	// sizes tells the later ones. It is closed at the end.
	sizes <-chan client.Size

	once sync.Once
	stop context.CancelFunc
	done sync.WaitGroup
}

// openTerminal makes a terminal raw. A signal to us makes it as it was at once,
// whatever else it does.
func openTerminal(ctx context.Context, file *os.File) (*terminal, error) {
	state, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("make the terminal raw: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	sizes := make(chan client.Size)
	t := &terminal{file: file, state: state, size: sizeOf(file), sizes: sizes, stop: stop}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	t.done.Go(func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-ctx.Done():
		}
		t.makeNormal()
	})
	t.done.Go(func() {
		defer close(sizes)
		watchSize(ctx, file, sizes)
	})
	return t, nil
}

func (t *terminal) makeNormal() {
	t.once.Do(func() { _ = term.Restore(int(t.file.Fd()), t.state) })
}

// restore makes the terminal as it was.
func (t *terminal) restore() {
	t.stop()
	t.done.Wait()
}

// watchSize sends the size of a terminal whenever it may have changed.
func watchSize(ctx context.Context, file *os.File, sizes chan<- client.Size) {
	changes, stop := sizeChanges()
	defer stop()
	for {
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
		select {
		case sizes <- sizeOf(file):
		case <-ctx.Done():
			return
		}
	}
}

// sizeOf a terminal; the usual one if it does not tell.
func sizeOf(file *os.File) client.Size {
	columns, rows, err := term.GetSize(int(file.Fd()))
	if err != nil || columns == 0 || rows == 0 {
		return client.Size{Columns: 80, Rows: 24}
	}
	return client.Size{Columns: uint16(columns), Rows: uint16(rows)}
}
