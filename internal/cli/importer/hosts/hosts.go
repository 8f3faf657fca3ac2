// Package hosts is what the importers of other programs' files have in common: hosts with
// their groups and jump hosts, and a note for each thing that a file says and a target
// cannot.
//
// Trade-off: a host that cannot be carried over does not end the import. It is left out,
// and a note says why, because one odd host in an inventory of hundreds is usual.
package hosts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/connpool/connpool/internal/cli/sshhost"
)

// MaxHosts bounds the hosts of a file, and MaxFile its size in bytes. A range such as
// web[1:999999999] would take all memory otherwise.
const (
	MaxHosts = 10_000
	MaxFile  = 4 << 20
)

// Host is a host that a file names.
type Host struct {
	// Name that the file gives it.
	Name string
	sshhost.Address
	// KeyFile is the path of the private key; "" if the file names none.
	KeyFile string
	// Password says that the host is logged in to with one.
	Password bool
	// KeyAlias is the name under which known_hosts has its key, if not the host's.
	KeyAlias string
	// Jump is the jump host on the way; nil for none.
	Jump *Host
	// JumpOnly says that the file names it only as a jump host.
	JumpOnly bool
	// Groups it is in, by name.
	Groups []string
}

// Inventory is what a file says.
type Inventory struct {
	Hosts []*Host
	// KnownHosts are further files with host keys.
	KnownHosts []string
	// Notes say what is not carried over, and why.
	Notes []string

	ignored map[string][]string // the hosts of each setting that is not carried over
}

// Defaults are for what a file does not say.
type Defaults struct {
	User string
}

// Notef adds a note, once.
func (i *Inventory) Notef(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(i.Notes, text) {
		i.Notes = append(i.Notes, text)
	}
}

// Ignore remembers that a setting of a host is not carried over.
func (i *Inventory) Ignore(setting, host string) {
	if i.ignored == nil {
		i.ignored = map[string][]string{}
	}
	i.ignored[setting] = append(i.ignored[setting], host)
}

// NoteIgnored writes one note for each setting that was ignored.
func (i *Inventory) NoteIgnored() {
	for _, setting := range slices.Sorted(maps.Keys(i.ignored)) {
		i.Notef("%s is not carried over (%s)", setting, listOf(i.ignored[setting]))
	}
}

// listOf names the first few, and counts the others.
func listOf(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// maxJumps is how many jump hosts a target may have.
const maxJumps = 3

// ErrTooManyJumps says why a host is left out.
var ErrTooManyJumps = errors.New("it has more than 3 jump hosts, or they form a cycle")

// Jumps turns jump hosts as ssh writes them into hosts.
type Jumps struct {
	// Named returns the host that the file has under a name; nil if there is none.
	Named func(name string, depth int) (*Host, error)
	// Other returns a host that the file has no entry for.
	Other func(name string, depth int) (*Host, error)
	// Made are the jump hosts that are in the file by no name of their own.
	Made []*Host
}

// Chain returns the last of the jump hosts in [USER@]HOST[:PORT],..., which is the one next
// to the host behind them; nil for none.
func (j *Jumps) Chain(words string, depth int) (*Host, error) {
	var via *Host
	for word := range strings.SplitSeq(words, ",") {
		address, err := sshhost.ParseAddress(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if depth++; depth > maxJumps {
			return nil, ErrTooManyJumps
		}
		if via, err = j.hop(address, hasPort(word), via, depth); err != nil {
			return nil, err
		}
	}
	return via, nil
}

func hasPort(word string) bool {
	return strings.Contains(word, "]:") || strings.Count(word[strings.LastIndex(word, "@")+1:], ":") == 1
}

// hop returns one jump host, reached through another one.
func (j *Jumps) hop(address sshhost.Address, hasPort bool, via *Host, depth int) (*Host, error) {
	host, err := j.Named(address.Host, depth)
	if err == nil && host == nil {
		host, err = j.Other(address.Host, depth)
	}
	if err != nil {
		return nil, err
	}
	hop := *host
	if address.User != "" {
		hop.User = address.User
	}
	if hasPort {
		hop.Port = address.Port
	}
	if via != nil {
		hop.Jump = via
	}
	if Same(&hop, host) && !host.JumpOnly {
		return host, nil
	}
	hop.JumpOnly, hop.Groups = true, nil
	for _, made := range j.Made {
		if Same(made, &hop) {
			return made, nil
		}
	}
	j.Made = append(j.Made, &hop)
	return &hop, nil
}

// TooManyJumps reports whether a host has more jump hosts than a target may have.
func (h *Host) TooManyJumps() bool {
	jumps := 0
	for host := h.Jump; host != nil; host = host.Jump {
		jumps++
	}
	return jumps > maxJumps
}

// Same reports whether two hosts would be the same target.
func Same(a, b *Host) bool {
	return a.Address == b.Address && a.KeyFile == b.KeyFile && a.Jump == b.Jump
}
