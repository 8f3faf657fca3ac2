// Package digest compares what two machines hold without sending it: by the SHA-256 of files,
// which the other machine takes with a program that it has.
//
//	tool := digest.New(run)
//	sums, err := tool.Files(ctx, []string{"/var/backups/dump.sql"})
//	here, err := digest.Of(file, size)
//
// The other machine is not trusted: what it prints is bounded, and is a digest or nothing.
package digest

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // for the script
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/connpool/connpool/internal/cli/cp/filesystem"
)

// Run runs a program on the other machine.
type Run func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error

// ErrNone means that the other machine could not say what a digest is: it has no program for
// it, runs none for this user, or does not find the file by the name that sftp has for it.
var ErrNone = errors.New("no digest")

// script takes the digests of the files whose names come as input, each before a NUL byte, or
// of the first bytes of one. Its second argument is not empty if there is only one.
//
//go:embed digest.sh
var script string

// Tool takes digests on another machine.
type Tool struct {
	run Run
	// missing is set once there was no answer, so that it is not asked again.
	missing atomic.Bool
}

// New returns the tool of the machine on which run runs programs.
func New(run Run) *Tool { return &Tool{run: run} }

// Files returns the digests of files, in their order, in hexadecimal digits. The error is
// ErrNone, or the end of ctx.
func (t *Tool) Files(ctx context.Context, names []string) ([]string, error) {
	said, err := t.ask(ctx, strings.Join(names, "\x00")+"\x00", "")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	if len(lines) != len(names) {
		return nil, ErrNone
	}
	sums := make([]string, len(lines))
	for i, line := range lines {
		if sums[i] = parse(line); sums[i] == "" {
			return nil, ErrNone
		}
	}
	return sums, nil
}

// Prefix returns the digest of the first n bytes of a file.
func (t *Tool) Prefix(ctx context.Context, name string, n int64) (string, error) {
	said, err := t.ask(ctx, name+"\x00", strconv.FormatInt(n, 10))
	if err != nil {
		return "", err
	}
	if sum := parse(said); sum != "" {
		return sum, nil
	}
	return "", ErrNone
}

// sum is what all tools begin a line with; a backslash says that the name behind is quoted.
var sum = regexp.MustCompile(`^\\?([0-9a-f]{64})\b`)

func parse(line string) string {
	if found := sum.FindStringSubmatch(line); found != nil {
		return found[1]
	}
	return ""
}

// relative finds the beginning of names that are not absolute.
var relative = regexp.MustCompile("(^|\x00)([^/\x00])")

func (t *Tool) ask(ctx context.Context, names, first string) (string, error) {
	if t.missing.Load() {
		return "", ErrNone
	}
	one := ""
	if strings.Count(names, "\x00") == 1 {
		one = "one"
	}
	// A name that begins with - would be an option.
	names = relative.ReplaceAllString(names, "$1./$2")
	said := &bounded{most: len(names) + 128*strings.Count(names, "\x00")}
	take := func() error {
		said.Reset()
		return t.run(ctx, []string{"sh", "-c", script, "sh", first, one}, strings.NewReader(names), said, io.Discard)
	}
	err := take()
	if filesystem.IsLost(err) { // its connection broke, and there may be another one
		err = take()
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case filesystem.IsLost(err):
		return "", ErrNone
	case err != nil:
		t.missing.Store(true)
		return "", ErrNone
	}
	return said.String(), nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer

	most int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	_, _ = b.Buffer.Write(p[:min(len(p), b.most-b.Len())])
	return len(p), nil
}

// Of returns the digest of the first n bytes of a file of this machine.
func Of(file io.ReaderAt, n int64) (string, error) {
	hash := sha256.New()
	read, err := io.CopyBuffer(hash, struct{ io.Reader }{io.NewSectionReader(file, 0, n)}, make([]byte, 256<<10))
	switch {
	case err != nil:
		return "", err
	case read < n:
		return "", fmt.Errorf("it ended after %d of %d bytes", read, n)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
