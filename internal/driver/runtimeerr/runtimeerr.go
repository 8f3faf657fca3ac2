// Package runtimeerr tells why a container runtime started no process for a command, as
// the exit code that a shell would give.
package runtimeerr

import "regexp"

// The exit codes of a shell that cannot start a program.
const (
	NoPermission = 126
	NoProgram    = 127
)

var (
	noProgram    = regexp.MustCompile(`executable file not found in \$PATH|no such file or directory`)
	noPermission = regexp.MustCompile(`permission denied|is a directory|exec format error`)
)

// ExitCode returns the code for what a runtime said, and false if the program is not to
// blame.
func ExitCode(said string) (int, bool) {
	switch {
	case noProgram.MatchString(said):
		return NoProgram, true
	case noPermission.MatchString(said):
		return NoPermission, true
	}
	return 0, false
}
