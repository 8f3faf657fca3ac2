//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandLimit bounds any one command, so that one that hangs is named.
const commandLimit = time.Minute

// result is how a program ended.
type result struct {
	stdout, stderr string
	code           int
}

// runWith runs a program to its end.
func runWith(t *testing.T, stdin io.Reader, words ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandLimit) // also for cleanup after a test
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended || ctx.Err() != nil {
		t.Fatalf("%s: %v, %v\n%s%s", strings.Join(words, " "), err, ctx.Err(), &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// run runs a program that must succeed, and returns what it printed.
func run(t *testing.T, words ...string) string {
	t.Helper()
	got := runWith(t, nil, words...)
	if got.code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(words, " "), got.code, got.stdout, got.stderr)
	}
	return got.stdout
}

// connpool runs the kubectl plugin, by which kubectl finds it.
func connpool(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append([]string{"kubectl", "connpool"}, args...)...)
}

// tryConnpool runs the plugin, which may fail.
func tryConnpool(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return runWith(t, strings.NewReader(stdin), append([]string{"kubectl", "connpool"}, args...)...)
}

// through runs a stock program through a pool.
func through(t *testing.T, pool string, words ...string) string {
	t.Helper()
	return run(t, throughWords(pool, words)...)
}

func throughWords(pool string, words []string) []string {
	return append([]string{"kubectl", "connpool", "proxy", pool, "--"}, words...)
}

// onTerminal runs a program on a pseudo-terminal and returns what a user would see.
func onTerminal(t *testing.T, words ...string) string {
	t.Helper()
	return run(t, "script", "--quiet", "--return", "--command", strings.Join(words, " "), "/dev/null")
}

// follower is a program that prints until it is stopped.
type follower struct {
	t     *testing.T
	lines chan string
	seen  []string
	stop  context.CancelFunc
	ended chan struct{}
}

// follow starts a program; it ends with the test at the latest.
func follow(t *testing.T, words ...string) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	f := &follower{t: t, lines: make(chan string, 1000), stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		_ = cmd.Wait()
		_ = writer.Close()
	}()
	go func() {
		defer close(f.lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			f.lines <- scanner.Text()
		}
	}()
	t.Cleanup(f.end)
	return f
}

// await returns the first line that has the words.
func (f *follower) await(words string) string {
	f.t.Helper()
	timeout := time.After(commandLimit)
	for {
		select {
		case line, more := <-f.lines:
			if !more {
				f.t.Fatalf("it ended before it said %q:\n%s", words, strings.Join(f.seen, "\n"))
			}
			f.seen = append(f.seen, line)
			if strings.Contains(line, words) {
				return line
			}
		case <-timeout:
			f.t.Fatalf("it has not said %q:\n%s", words, strings.Join(f.seen, "\n"))
		}
	}
}

// end interrupts the program and returns when it is gone.
func (f *follower) end() {
	f.stop()
	<-f.ended
}
