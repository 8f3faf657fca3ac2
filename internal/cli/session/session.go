// Package session opens, uses, lists and ends sessions: shells on a target that
// stay, so that several commands keep one directory and one environment.
//
// New makes the command session with one command below it for each of these.
//
// Trade-off: a command in a session has no input, and Ctrl-C ends the session
// together with it. Both belong to the shell, which serves one command after the
// other.
package session

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/plugin"
)

// prefix is how -o name marks a session. It may be typed before a name.
const prefix = "session/"

// nameOf returns the name of a session from an argument.
func nameOf(argument string) string { return strings.TrimPrefix(argument, prefix) }

// New returns the command session, with the commands below it.
func New(f *plugin.Factory) *cobra.Command {
	command := &cobra.Command{
		Use:     "session",
		Aliases: []string{"sessions"},
		Short:   "Run several commands in one shell",
		Long: "Run several commands in one shell that stays: they keep its directory, its\n" +
			"variables and its functions, and each has its own output and exit code, for one\n" +
			"round trip. A session ends when it is deleted, has been idle for too long or is\n" +
			"too old.",
		Example: f.Examples(
			"open one, and remember its name", "session create web/web-1",
			"run a command in it", "session exec NAME -- cd /srv/app",
			"and another one, for its shell", "session exec NAME --shell -- 'git log -1 | cat'",
			"end it", "session delete NAME"),
	}
	commands := &cobra.Group{ID: "commands", Title: "Commands:"}
	command.AddGroup(commands)
	for _, below := range []*cobra.Command{newCreate(f), newExec(f), newList(f), newDelete(f)} {
		below.GroupID = commands.ID
		command.AddCommand(below)
	}
	return command
}
