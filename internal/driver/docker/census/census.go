// Package census tells which processes of a container belong to a command. A shell in the
// container runs the script, and the functions read what it says.
//
//	found, whole := census.Parse(run(census.Script(mark, "", nil)))
//	processes := found.Kin(nil)
//	run(census.Script(mark, "TERM", numbers))
//
// An engine has no words for the processes of a command, nor can it signal them.
package census

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Variable is in the environment of every command, so that its processes can be found.
// Its value is the command's mark.
const Variable = "CONNPOOL_COMMAND"

// script lists all processes that it sees, and then signals those that are given to
// it and those whose environment holds a mark. It lists them first, because the children
// of a process that has ended have another parent. It uses what is built into every POSIX
// shell, since containers may hold nothing else; `read` drops the zeros between
// variables. A program may have any name, so what stands before the last ")" of stat is
// cut off; state, parent, session and beginning are the 1st, 2nd, 4th and 20th field
// behind it.
//
//nolint:dupword // loops within loops
const script = `whole() {
  text=
  { while IFS= read -r line || [ -n "$line" ]; do text=$text$line; done <"$1"; } 2>/dev/null
}
mark() {
  whole "$1/environ"
  case $text in
  *%[1]s=%[2]s*) mark=own;;
  *%[1]s=*) mark=other;;
  *) mark=none;;
  esac
}
for dir in /proc/[0-9]*; do
  mark "$dir"
  whole "$dir/stat"
  set -- ${text##*) }
  [ $# -ge 20 ] && echo "${dir#/proc/} $mark $1 $2 $4 ${20}"
done
for signal in %[3]s; do
  for pid in %[4]s; do kill "-$signal" "$pid" 2>/dev/null; done
  for dir in /proc/[0-9]*; do
    mark "$dir"
    [ $mark = own ] && kill "-$signal" "${dir#/proc/}" 2>/dev/null
  done
done
echo "self $$"`

// Script returns the one that lists processes, and sends signals to some by their numbers
// and to those with the mark. Signals are names without SIG, between spaces.
func Script(mark, signals string, pids []int) string {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	return fmt.Sprintf(script, Variable, mark, signals, strings.Join(words, " "))
}

// Sighting is one process as a container sees it. Parents that the container does not
// see are 0.
type Sighting struct {
	PID, Parent, Session int
	// Begun is when it began, in clock ticks of the kernel.
	Begun uint64
	// Mark is own for a process with the mark of the command, other for one with
	// another mark, and none if it has none or its environment cannot be read.
	Mark string
}

// ticksPerSecond is that of the times in /proc on Linux, whatever the machine.
const ticksPerSecond = 100

// Own is the Mark of a process that has the mark of the command.
const Own = "own"

// Census is what a script saw.
type Census struct {
	// Seen are the processes that live.
	Seen []Sighting
	// Self is that of the script.
	Self Sighting
}

// Parse reports whether the text is whole. The text comes from the container, so
// it may be anything.
func Parse(text string) (found Census, whole bool) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "self" {
			self, _ := strconv.Atoi(fields[1])
			at := slices.IndexFunc(found.Seen, func(s Sighting) bool { return s.PID == self })
			if at >= 0 {
				found.Self = found.Seen[at]
			}
			return found, at >= 0
		}
		if s, ok := parseSighting(fields); ok {
			found.Seen = append(found.Seen, s)
		}
	}
	return found, false
}

// parseSighting reads a process's number, its mark, state, parent, session and beginning.
// What has ended and waits for its parent is no sighting.
func parseSighting(fields []string) (s Sighting, ok bool) {
	if len(fields) != 6 || fields[2] == "Z" || fields[2] == "X" {
		return s, false
	}
	var errs [4]error
	s.PID, errs[0] = strconv.Atoi(fields[0])
	s.Parent, errs[1] = strconv.Atoi(fields[3])
	s.Session, errs[2] = strconv.Atoi(fields[4])
	s.Begun, errs[3] = strconv.ParseUint(fields[5], 10, 64)
	s.Mark = fields[1]
	return s, errs == [4]error{} && s.PID > 0
}

// Kin returns the processes of a command: those with its mark, those that are known
// already by their number and beginning, their descendants, and what else is in their
// sessions. Each command has a session of its own.
func (c Census) Kin(known map[int]uint64) map[int]uint64 {
	children, sessions, members := map[int][]Sighting{}, map[int][]Sighting{}, map[int]uint64{}
	var next []Sighting
	for _, s := range c.Seen {
		if s.PID <= 1 || s.Mark == "other" {
			continue
		}
		children[s.Parent] = append(children[s.Parent], s)
		sessions[s.Session] = append(sessions[s.Session], s)
		if begun, isKnown := known[s.PID]; s.Mark == Own || isKnown && begun == s.Begun {
			next = append(next, s)
		}
	}
	delete(sessions, 0) // outside of the container
	delete(sessions, 1) // the container's own
	for len(next) > 0 {
		s := next[0]
		members[s.PID] = s.Begun
		next = append(next[1:], children[s.PID]...)
		next = append(next, sessions[s.Session]...)
		delete(children, s.PID) // so that each is taken once, however the text lies
		delete(sessions, s.Session)
	}
	return members
}

// Root returns the first process of a command that has neither kept its mark nor left
// kin with it: a program that was started with another environment, or by another user.
// Such a process has a parent outside of the container and leads a session. It is only
// told from others if it is the only one that may have begun since the command did.
func (c Census) Root(age time.Duration) (found Sighting, only bool) {
	ticks := uint64(age/time.Second+1) * ticksPerSecond
	for _, s := range c.Seen {
		outside := s.Parent == 0 && s.PID == s.Session && s.PID > 1
		if outside && s.Mark == "none" && s.Begun+ticks >= c.Self.Begun {
			if only {
				return Sighting{}, false
			}
			found, only = s, true
		}
	}
	return found, only
}
