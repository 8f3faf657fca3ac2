// Package sessiontest plays the shell of a session, for tests in memory and in
// virtual time. It understands the frames that package session writes, but not the
// language of a shell.
//
//	fake.OnExec(func(ctx context.Context, _ *drivertest.FakeConn, _ driver.Command, streams driver.Streams) (driver.ExitStatus, error) {
//		return sessiontest.Exec(ctx, streams, func(_ context.Context, line string, stdout, _ io.Writer) (code int, exit bool) {
//			fmt.Fprintln(stdout, line)
//			return 0, line == "exit"
//		})
//	})
package sessiontest

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/connpool/connpool/internal/driver"
)

// Play plays one command. If it returns true for exit, the shell ends with the code.
type Play func(ctx context.Context, line string, stdout, stderr io.Writer) (code int, exit bool)

// frame matches what a session writes for one command.
var frame = regexp.MustCompile(`(?s)^.*?'%s%s\+\\n' ([0-9a-f]+) ([0-9a-f]+) .*?command eval '(.*)\n'\n\} </dev/null .*2>&1; \}\n$`)

// Exec plays a shell until its input ends or a command exits the shell. When ctx
// ends, it fails as an Execer does.
func Exec(ctx context.Context, streams driver.Streams, play Play) (driver.ExitStatus, error) {
	input := make(chan string)
	done := make(chan struct{})
	defer close(done)
	go read(streams.Stdin, input, done)
	text := ""
	for {
		select {
		case <-ctx.Done():
			return driver.ExitStatus{}, gone()
		case more, ok := <-input:
			if !ok {
				return driver.ExitStatus{}, nil
			}
			text += more
		}
		parts := frame.FindStringSubmatch(text)
		if parts == nil {
			continue
		}
		text = ""
		mark, line := parts[1]+parts[2], strings.ReplaceAll(parts[3], `'\''`, "'")
		say(streams, mark+"+\n", mark+"+\n")
		code, exit := play(ctx, line, streams.Stdout, streams.Stderr)
		if ctx.Err() != nil {
			return driver.ExitStatus{}, gone()
		}
		if exit {
			return driver.ExitStatus{Code: code}, nil
		}
		say(streams, fmt.Sprintf("%s-%d\n", mark, code), mark+"-\n")
	}
}

func gone() error {
	return &driver.Error{Reason: driver.Timeout, Stage: driver.StageRun, Started: true, Message: "the caller stopped waiting"}
}

func say(streams driver.Streams, stdout, stderr string) {
	_, _ = io.WriteString(streams.Stdout, stdout)
	_, _ = io.WriteString(streams.Stderr, stderr)
}

func read(from io.Reader, input chan<- string, done <-chan struct{}) {
	defer close(input)
	for {
		buffer := make([]byte, 4<<10)
		n, err := from.Read(buffer)
		select {
		case input <- string(buffer[:n]):
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}
