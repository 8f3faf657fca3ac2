package docker

import (
	"cmp"
	"maps"
	"regexp"
	"slices"

	"github.com/docker/docker/api/types/container"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/docker/census"
)

// plainName matches the names and IDs that Docker gives. Any other text could become
// another path of its API.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

// detachKeys detach a terminal from its command if a user types them, so they are a
// sequence that no user types. The engine waits after ctrl-p for the rest of its
// default, ctrl-p ctrl-q, but shells and editors need ctrl-p.
const detachKeys = "ctrl-@,ctrl-^,ctrl-@,ctrl-_,ctrl-@,ctrl-^"

// check returns an error if the Docker API cannot carry the command.
func check(command driver.Command) *driver.Error {
	place := command.Place
	switch {
	case place.Container == "":
		return badCommand("a Docker target runs commands in containers; name one")
	case place.Pod != "" || place.Namespace != "":
		return badCommand("a Docker target has containers but no pods or namespaces; name a container only")
	case !plainName.MatchString(place.Container):
		return badCommand("%q is not a valid name or ID of a container; list the containers with docker ps",
			driver.Sanitize(place.Container))
	case command.Subsystem != "":
		return badCommand("containers have no subsystems such as %s, only ssh targets do; run a program instead",
			driver.Sanitize(command.Subsystem))
	}
	return command.CheckText("and the Docker API carries nothing else; pass such data on standard input")
}

func badCommand(format string, args ...any) *driver.Error {
	return driver.Errorf(driver.ProtocolError, driver.StageStart, format, args...)
}

func execOptions(command driver.Command, stdin bool, mark string) container.ExecOptions {
	return container.ExecOptions{
		Cmd: argvOf(command), Env: environment(command, mark), DetachKeys: detachKeys,
		AttachStdin: stdin, AttachStdout: true, AttachStderr: true,
		Tty: command.TTY != nil, ConsoleSize: consoleSize(command.TTY),
	}
}

func argvOf(command driver.Command) []string {
	switch {
	case len(command.Argv) > 0:
		return command.Argv
	case command.Shell != "":
		return []string{"sh", "-c", command.Shell}
	}
	return []string{"sh"}
}

func environment(command driver.Command, mark string) []string {
	variables := []string{census.Variable + "=" + mark}
	if tty := command.TTY; tty != nil {
		variables = append(variables, "TERM="+cmp.Or(tty.Term, "xterm"))
	}
	for _, name := range slices.Sorted(maps.Keys(command.Env)) {
		variables = append(variables, name+"="+command.Env[name])
	}
	return variables
}

func consoleSize(tty *driver.TTY) *[2]uint {
	if tty == nil || tty.Size.Rows == 0 || tty.Size.Columns == 0 {
		return nil
	}
	return &[2]uint{uint(tty.Size.Rows), uint(tty.Size.Columns)}
}
