package exec

import (
	"fmt"
	"strconv"
)

// ttyMode is the flag -t: when a command gets a terminal. As with ssh, a second -t
// asks for one although there is none on this side.
type ttyMode int

const (
	ttyNever ttyMode = iota
	ttyIfHere
	ttyAlways
)

// Set implements pflag.Value. It is called for each -t.
func (m *ttyMode) Set(text string) error {
	if text == "always" {
		*m = ttyAlways
		return nil
	}
	wanted, err := strconv.ParseBool(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a valid value: use always, true or false", text)
	case !wanted:
		*m = ttyNever
	case *m < ttyAlways:
		*m++
	}
	return nil
}

// String implements pflag.Value.
func (m *ttyMode) String() string {
	return [...]string{ttyNever: "false", ttyIfHere: "true", ttyAlways: "always"}[*m]
}

// Type implements pflag.Value. A bool needs no value.
func (m *ttyMode) Type() string { return "bool" }
