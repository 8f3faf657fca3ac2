// Package terminal is the local terminal: what it is, how large it is, and the
// raw mode in which every key goes to a program.
//
//	raw, err := terminal.MakeRaw(ctx, os.Stdin)
//	...
//	defer raw.Restore()
//
// Trade-off: on Windows a program learns of a new size some moments late, because
// Windows has no signal for it and the window is looked at again and again.
package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/connpool/connpool/client"
)

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Width returns the columns of the terminal that a stream is, if it is one.
func Width(stream any) (columns int, ok bool) {
	file, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	return columns, err == nil && columns > 0
}

// Raw is a terminal in raw mode.
type Raw struct {
	// Size is the size at first.
	Size client.Size
	// Sizes delivers the later sizes. Restore closes it.
	Sizes <-chan client.Size

	stop context.CancelFunc
	done sync.WaitGroup
}

// MakeRaw makes the terminal that a stream is raw until Restore. A signal to this
// process restores the terminal at once, whatever else the process does about it.
func MakeRaw(ctx context.Context, stream any) (*Raw, error) {
	file, ok := stream.(*os.File)
	if !ok {
		return nil, errors.New("standard input is not a terminal")
	}
	state, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("make the terminal raw: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	sizes := make(chan client.Size)
	r := &Raw{Size: sizeOf(file), Sizes: sizes, stop: stop}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	r.done.Go(func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-ctx.Done():
		}
		_ = term.Restore(int(file.Fd()), state)
	})
	r.done.Go(func() {
		defer close(sizes)
		changes, stop := sizeChanges()
		defer stop()
		watchSize(ctx, changes, r.Size, func() client.Size { return sizeOf(file) }, sizes)
	})
	return r, nil
}

// Restore makes the terminal as it was.
func (r *Raw) Restore() {
	r.stop()
	r.done.Wait()
}

// RawWriter writes lines to a terminal in raw mode, which does not return to the first
// column by itself.
type RawWriter struct{ io.Writer }

// Write implements io.Writer.
func (w RawWriter) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// watchSize sends the size of a terminal when it is no longer the last one. It looks
// at the terminal at each of the changes that there may have been.
func watchSize[T any](ctx context.Context, changes <-chan T, last client.Size, look func() client.Size, sizes chan<- client.Size) {
	for {
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
		size := look()
		if size == last {
			continue
		}
		last = size
		select {
		case sizes <- size:
		case <-ctx.Done():
			return
		}
	}
}

// SizeOf returns the size of the terminal that a stream is, or the usual one if it is
// none or does not tell.
func SizeOf(stream any) client.Size {
	file, ok := stream.(*os.File)
	if !ok {
		return client.Size{Columns: 80, Rows: 24}
	}
	return sizeOf(file)
}

func sizeOf(file *os.File) client.Size {
	columns, rows, err := sizeOfScreen(file)
	if err != nil || columns == 0 || rows == 0 {
		return client.Size{Columns: 80, Rows: 24}
	}
	return client.Size{Columns: uint16(columns), Rows: uint16(rows)}
}
