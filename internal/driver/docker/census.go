package docker

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// markVariable is in the environment of every command, so that its processes can be
// found.
const markVariable = "CONNPOOL_COMMAND"

// censusScript lists all processes that it sees, and then signals those that are given to
// it and those whose environment holds a mark. It lists them first, because the children
// of a process that has ended have another parent. It uses what is built into every POSIX
// shell, since containers may hold nothing else; `read` drops the zeros between
// variables. A program may have any name, so what stands before the last ")" of stat is
// cut off; state, parent, session and beginning are the 1st, 2nd, 4th and 20th field
// behind it.
//
//nolint:dupword // loops within loops
const censusScript = `whole() {
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

// script returns the one that sends signals to processes and to those with the mark.
func script(mark, signals string, pids []int) string {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	return fmt.Sprintf(censusScript, markVariable, mark, signals, strings.Join(words, " "))
}

// sighting is one process as a container sees it. Parents that the container does not
// see are 0.
type sighting struct {
	pid, parent, session int
	// begun is when it began, in clock ticks of the kernel.
	begun uint64
	// mark is own for a process with the mark of the command, other for one with
	// another mark, and none if it has none or its environment cannot be read.
	mark string
}

// ticksPerSecond is that of the times in /proc on Linux, whatever the machine.
const ticksPerSecond = 100

// census is what a script saw: the processes that live, and the script's own.
type census struct {
	seen []sighting
	self sighting
}

// parseCensus reports whether the text is whole. The text comes from the container, so
// it may be anything.
func parseCensus(text string) (found census, whole bool) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "self" {
			self, _ := strconv.Atoi(fields[1])
			at := slices.IndexFunc(found.seen, func(s sighting) bool { return s.pid == self })
			if at >= 0 {
				found.self = found.seen[at]
			}
			return found, at >= 0
		}
		if s, ok := parseSighting(fields); ok {
			found.seen = append(found.seen, s)
		}
	}
	return found, false
}

// parseSighting reads a process's number, its mark, state, parent, session and beginning.
// What has ended and waits for its parent is no sighting.
func parseSighting(fields []string) (s sighting, ok bool) {
	if len(fields) != 6 || fields[2] == "Z" || fields[2] == "X" {
		return s, false
	}
	var errs [4]error
	s.pid, errs[0] = strconv.Atoi(fields[0])
	s.parent, errs[1] = strconv.Atoi(fields[3])
	s.session, errs[2] = strconv.Atoi(fields[4])
	s.begun, errs[3] = strconv.ParseUint(fields[5], 10, 64)
	s.mark = fields[1]
	return s, errs == [4]error{} && s.pid > 0
}

// kin returns the processes of a command: those with its mark, those that are known
// already by their number and beginning, their descendants, and what else is in their
// sessions. Each command has a session of its own.
func (c census) kin(known map[int]uint64) map[int]uint64 {
	children, sessions, members := map[int][]sighting{}, map[int][]sighting{}, map[int]uint64{}
	var next []sighting
	for _, s := range c.seen {
		if s.pid <= 1 || s.mark == "other" {
			continue
		}
		children[s.parent] = append(children[s.parent], s)
		sessions[s.session] = append(sessions[s.session], s)
		if begun, isKnown := known[s.pid]; s.mark == "own" || isKnown && begun == s.begun {
			next = append(next, s)
		}
	}
	delete(sessions, 0) // outside of the container
	delete(sessions, 1) // the container's own
	for len(next) > 0 {
		s := next[0]
		members[s.pid] = s.begun
		next = append(next[1:], children[s.pid]...)
		next = append(next, sessions[s.session]...)
		delete(children, s.pid) // so that each is taken once, however the text lies
		delete(sessions, s.session)
	}
	return members
}

// root returns the first process of a command that has neither kept its mark nor left
// kin with it: a program that was started with another environment, or by another user.
// Such a process has a parent outside of the container and leads a session. It is only
// told from others if it is the only one that may have begun since the command did.
func (c census) root(age time.Duration) (found sighting, only bool) {
	ticks := uint64(age/time.Second+1) * ticksPerSecond
	for _, s := range c.seen {
		outside := s.parent == 0 && s.pid == s.session && s.pid > 1
		if outside && s.mark == "none" && s.begun+ticks >= c.self.begun {
			if only {
				return sighting{}, false
			}
			found, only = s, true
		}
	}
	return found, only
}
