package binaries

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lock waits until no other process holds the file. The kernel releases the file when
// its holder dies, so there is nothing to clean up.
func (s set) lock(ctx context.Context, path string, say Say) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if !told {
			say("waiting for another process that is getting %s", s)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), file.Close())
		case <-ticker.C:
		}
	}
}

func (s set) isStamped(bin string, wanted release) bool {
	stamp, err := os.ReadFile(filepath.Join(bin, s.stampFile()))
	return err == nil && strings.TrimSpace(string(stamp)) == wanted.String() && s.complete(bin) == nil
}

// publish puts the programs into bin, one after the other, and the stamp last. Each
// file appears as a whole, even when other processes publish at the same time.
func (s set) publish(cache, bin string, wanted release) error {
	if err := os.MkdirAll(bin, 0o755); err != nil { //nolint:gosec // programs are not secret
		return err
	}
	fresh, err := os.MkdirTemp(bin, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // empty by then
	for _, name := range s.programs() {
		if err := link(filepath.Join(cache, name), filepath.Join(fresh, name)); err != nil {
			return err
		}
	}
	stamp := []byte(wanted.String() + "\n")
	if err := os.WriteFile(filepath.Join(fresh, s.stampFile()), stamp, 0o644); err != nil { //nolint:gosec // no secret
		return err
	}
	for _, name := range append(s.programs(), s.stampFile()) {
		if err := os.Rename(filepath.Join(fresh, name), filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	return nil
}

// link makes a hard link, which costs no space, or a copy where the file systems
// differ.
func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()                                                     //nolint:errcheck // only read
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // a program
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
