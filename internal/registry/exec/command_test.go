package exec

import (
	"slices"
	"strings"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/refusal"
	"github.com/connpool/connpool/internal/registry/registrytest"
)

func TestCommandsOfTheJSONForm(t *testing.T) {
	words := func(n int, word string) []string { return slices.Repeat([]string{word}, n) }
	for name, test := range map[string]struct {
		spec live.ExecSpec
		want []string
	}{
		"a command":                 {live.ExecSpec{Command: []string{"echo", ""}}, nil},
		"a line for the shell":      {live.ExecSpec{Shell: "ls | wc -l"}, nil},
		"a subsystem":               {live.ExecSpec{Subsystem: "sftp"}, nil},
		"as many words as may be":   {live.ExecSpec{Command: words(1024, "x")}, nil},
		"nothing at all":            {live.ExecSpec{}, []string{"spec.command"}},
		"a command and a shell":     {live.ExecSpec{Command: []string{"ls"}, Shell: "ls"}, []string{"spec.command"}},
		"a program without a name":  {live.ExecSpec{Command: []string{"", "x"}}, []string{"spec.command[0]"}},
		"too many words":            {live.ExecSpec{Command: words(1025, "x")}, []string{"spec.command"}},
		"too long words":            {live.ExecSpec{Command: []string{strings.Repeat("x", 128<<10+1)}}, []string{"spec.command"}},
		"NUL in a word":             {live.ExecSpec{Command: []string{"echo", "a\x00b"}}, []string{"spec.command[1]"}},
		"NUL in the line":           {live.ExecSpec{Shell: "a\x00b"}, []string{"spec.shell"}},
		"too long a line":           {live.ExecSpec{Shell: strings.Repeat("x", 128<<10+1)}, []string{"spec.shell"}},
		"a newline in a subsystem":  {live.ExecSpec{Subsystem: "sftp\n"}, []string{"spec.subsystem"}},
		"a variable with a space":   {live.ExecSpec{Shell: "x", Env: map[string]string{"A B": ""}}, []string{"spec.env"}},
		"a variable without a name": {live.ExecSpec{Shell: "x", Env: map[string]string{"": "x"}}, []string{"spec.env"}},
		"a variable with a NUL":     {live.ExecSpec{Shell: "x", Env: map[string]string{"A": "\x00"}}, []string{"spec.env[A]"}},
		"too long an environment":   {live.ExecSpec{Shell: "x", Env: map[string]string{"A": strings.Repeat("x", 128<<10)}}, []string{"spec.env"}},
		"too long an input":         {live.ExecSpec{Shell: "x", Stdin: make([]byte, 1<<20+1)}, []string{"spec.stdin"}},
		"a negative timeout":        {live.ExecSpec{Shell: "x", TimeoutSeconds: -1}, []string{"spec.timeoutSeconds"}},
		"too long an ID":            {live.ExecSpec{Shell: "x", RequestID: strings.Repeat("x", 129)}, []string{"spec.requestID"}},
		"an ID with an escape":      {live.ExecSpec{Shell: "x", RequestID: "a\x1b[31m"}, []string{"spec.requestID"}},
		"several things at once":    {live.ExecSpec{TimeoutSeconds: -1}, []string{"spec.command", "spec.timeoutSeconds"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := registrytest.Fields(validateSpec(&test.spec, Rules{})); !slices.Equal(got, test.want) {
				t.Errorf("wrong are %v, want %v", got, test.want)
			}
		})
	}
}

func TestCommandsOfAQuery(t *testing.T) {
	for name, test := range map[string]struct {
		options live.ExecOptions
		want    []string
	}{
		"a command":                   {live.ExecOptions{Command: []string{"ls"}, Stdout: true}, nil},
		"a login shell":               {live.ExecOptions{TTY: true, Stdin: true, Stdout: true, Term: "xterm-256color"}, nil},
		"variables":                   {live.ExecOptions{Shell: "x", Stdout: true, Env: []string{"A=b=c", "B="}}, nil},
		"a shell without a terminal":  {live.ExecOptions{Stdin: true}, []string{"command"}},
		"no streams":                  {live.ExecOptions{Command: []string{"ls"}}, []string{"stdin"}},
		"a terminal with stderr":      {live.ExecOptions{Shell: "x", TTY: true, Stderr: true}, []string{"stderr"}},
		"two kinds of command":        {live.ExecOptions{Shell: "x", Subsystem: "sftp", TTY: true, Stdout: true}, []string{"command"}},
		"a terminal with an escape":   {live.ExecOptions{TTY: true, Stdout: true, Term: "\x1b"}, []string{"term"}},
		"too long a terminal":         {live.ExecOptions{TTY: true, Stdout: true, Term: strings.Repeat("x", 65)}, []string{"term"}},
		"a variable without a value":  {live.ExecOptions{Shell: "x", Stdout: true, Env: []string{"A"}}, []string{"env[0]"}},
		"a variable given twice":      {live.ExecOptions{Shell: "x", Stdout: true, Env: []string{"A=1", "A=2"}}, []string{"env[1]"}},
		"a variable with a bad name":  {live.ExecOptions{Shell: "x", Stdout: true, Env: []string{"1A=1"}}, []string{"env"}},
		"a program without a name":    {live.ExecOptions{Command: []string{""}, Stdout: true}, []string{"command[0]"}},
		"a command with a NUL in it":  {live.ExecOptions{Command: []string{"a\x00"}, Stdout: true}, []string{"command[0]"}},
		"only the terminal's streams": {live.ExecOptions{TTY: true}, []string{"stdin"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := validateOptions(&test.options, Rules{})
			if got := registrytest.Fields(problems); !slices.Equal(got, test.want) {
				t.Errorf("wrong are %v, want %v", got, test.want)
			}
		})
	}
}

func TestAProgramWithoutANameIsRefusedWithoutTheField(t *testing.T) {
	_, problems := validateOptions(&live.ExecOptions{Command: []string{""}, Stdout: true}, Rules{})
	if got := refusal.Invalid(problems).ErrStatus.Message; got != "the name of the program must not be empty" {
		t.Error(got)
	}
}

func TestAValueOfAVariableIsNeverRepeated(t *testing.T) {
	const canary = "canary-7f3a"
	_, problems := validateOptions(&live.ExecOptions{Shell: "x", Stdout: true, Env: []string{
		canary, "1A=" + canary, "B=" + canary + "\x00", "B=" + canary,
	}}, Rules{})
	problems = append(problems, validateSpec(&live.ExecSpec{
		Stdin: []byte(canary), Env: map[string]string{"A B": canary, "C": canary + "\x00"},
	}, Rules{})...)
	if len(problems) < 6 {
		t.Fatalf("%d problems", len(problems))
	}
	if message := refusal.Invalid(problems).Error(); strings.Contains(message, canary) {
		t.Errorf("message is %q", message)
	}
}
