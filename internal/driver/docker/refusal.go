package docker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/connpool/connpool/internal/driver"
)

// When the container runtime cannot start a command, the engine sends the runtime's
// message as if the command had written it. The engine knows better: the command never
// had a process.
const (
	// refusalPrefix begins each message of a runtime that did not start a command.
	refusalPrefix = "OCI runtime exec failed: "
	// maxRefusal bounds such a message.
	maxRefusal = 4 << 10
)

// These are the same for pods, in the kube driver.
var (
	refusalIntroduction = regexp.MustCompile(`^.*OCI runtime exec failed: exec failed: (.*unable to start container process: )?`)
	noProgram           = regexp.MustCompile(`executable file not found in \$PATH|no such file or directory`)
	noPermission        = regexp.MustCompile(`permission denied|is a directory|exec format error`)
)

// The exit codes of a shell that cannot start a program.
const (
	codeNoPermission = 126
	codeNoProgram    = 127
)

// refusal is what the runtime said in place of a command.
type refusal struct {
	said []byte
	// never asks the engine whether the command was never started.
	never func() bool
}

// takes reports whether a frame is the runtime's message.
func (r *refusal) takes(stream byte, length int64, from *bufio.Reader) bool {
	if stream != streamStdout && stream != streamStderr || length < int64(len(refusalPrefix)) || length > maxRefusal {
		return false
	}
	begin, _ := from.Peek(len(refusalPrefix))
	return string(begin) == refusalPrefix && r.never()
}

// Write implements io.Writer.
func (r *refusal) Write(p []byte) (int, error) {
	r.said = append(r.said, p[:min(len(p), maxRefusal-len(r.said))]...)
	return len(p), nil
}

// opening passes the output of a terminal on, and keeps its beginning.
type opening struct {
	io.Writer

	begin *refusal
}

// Write implements io.Writer.
func (o opening) Write(p []byte) (int, error) {
	_, _ = o.begin.Write(p)
	return o.Writer.Write(p)
}

// neverStarted asks the engine whether the command never had a process. Engines that
// forget processes answer the same for a command that has ended, so it is asked only
// about one in whose place the runtime seems to speak.
func (e *execution) neverStarted() bool {
	ctx, cancel := context.WithTimeout(e.conn.ctx, inspectTimeout)
	defer cancel()
	found, err := e.process.inspect(ctx)
	return err == nil && found.neverHadAProcess()
}

func (s state) neverHadAProcess() bool {
	return !s.Running && s.Pid == 0 && s.ExitCode != nil && (*s.ExitCode == codeNoPermission || *s.ExitCode == codeNoProgram)
}

// refusedBy returns how a command ended that the runtime did not start: as in a shell
// that finds no program, or cannot run it, with a message on stderr. Anything else is an
// error.
func (e *execution) refusedBy(said string) (driver.ExitStatus, error) {
	words := driver.Sanitize(strings.TrimSuffix(strings.TrimSpace(refusalIntroduction.ReplaceAllString(said, "")), ": unknown"))
	var code int
	switch {
	case noProgram.MatchString(said):
		code = codeNoProgram
	case noPermission.MatchString(said):
		code = codeNoPermission
	default:
		return driver.ExitStatus{}, driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the container's runtime did not start the command (%s); look into the engine's log", words)
	}
	if e.tty == nil { // or it is on the terminal already
		_, _ = fmt.Fprintln(e.streams.Stderr, words)
	}
	return driver.ExitStatus{Code: code}, nil
}
