package ssh

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// request is the channel request that starts a command.
type request struct {
	kind    string
	payload []byte
}

func newRequest(command driver.Command) (request, error) {
	if holdsNUL(command) {
		return request{}, driver.Errorf(driver.ProtocolError, driver.StageStart,
			"the command or its environment holds a NUL byte, which no process can receive; remove it")
	}
	switch {
	case len(command.Argv) > 0:
		return request{"exec", payload(driver.Quote(command.Argv))}, nil
	case command.Shell != "":
		return request{"exec", payload(command.Shell)}, nil
	case command.Subsystem != "":
		return request{"subsystem", payload(command.Subsystem)}, nil
	}
	return request{kind: "shell"}, nil
}

func payload(text string) []byte { return ssh.Marshal(&struct{ Text string }{text}) }

func holdsNUL(command driver.Command) bool {
	words := slices.Concat(command.Argv, []string{command.Shell, command.Subsystem},
		slices.Collect(maps.Keys(command.Env)), slices.Collect(maps.Values(command.Env)))
	return slices.ContainsFunc(words, func(word string) bool { return strings.ContainsRune(word, 0) })
}
