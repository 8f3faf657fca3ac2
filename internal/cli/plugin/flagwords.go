package plugin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/connpool/connpool/internal/cli/exit"
)

// kindsOfValues say what the value of a flag has to be, by the name of its type.
var kindsOfValues = map[string]string{
	"int": "a whole number", "duration": "a duration such as 30s or 5m", "bool": "true or false",
}

// inFlagWords returns an error about flags in words for a person, with the next step.
func inFlagWords(command *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok && isInGoWords(bad) {
		err = fmt.Errorf("%s %q is not %s", dashed(bad.GetFlag()), bad.GetValue(), kindsOfValues[bad.GetFlag().Value.Type()])
	}
	_, unknown := errors.AsType[*pflag.NotExistError](err)
	if unknown && strings.Contains(command.Use, "-- COMMAND") {
		return exit.Hint(err, "See the flags: %s --help. Those of the remote command stand behind --", command.CommandPath())
	}
	return exit.Hint(err, "See the flags: %s --help", command.CommandPath())
}

// isInGoWords reports whether the cause speaks of the functions of Go. A flag of our own
// type has words of its own.
func isInGoWords(bad *pflag.InvalidValueError) bool {
	_, isNumber := errors.AsType[*strconv.NumError](bad)
	return isNumber && kindsOfValues[bad.GetFlag().Value.Type()] != "" || bad.GetFlag().Value.Type() == "duration"
}

// dashed returns a flag as it is typed. The flags of one letter have no other name.
func dashed(flag *pflag.Flag) string {
	if len(flag.Name) == 1 {
		return "-" + flag.Name
	}
	return "--" + flag.Name
}
