// Package remote is a command that runs on a target: how it is written on a
// command line, which bounds it has, and what its end means to the caller.
//
// A command of the plugin that runs something has a Command among its options,
// registers its flags, runs it by Stream, and passes the error to an Ending.
//
//	_, err := remote.Stream(ctx, live.Pool(namespace, o.command.Pool), o.command.ForClient(), streams, notes)
//	return remote.Ending{Asked: asked, Command: &o.command, Notes: notes}.Error(ctx, f.Cluster, err)
//
// Trade-off: the bounds of the API are checked here a second time, so that a
// command that is too long fails with a sentence and not with a refused request.
package remote

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/internal/cli/cluster"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// EnvUsage is the help of an --env flag for a single command.
const EnvUsage = "Environment variable to set, as NAME=value; if the server refuses it, the command does not run; " +
	"not for secrets; may be repeated"

// Command is what to run, and where.
type Command struct {
	Pool   string
	Target string
	Place  Place
	Words  []string
	// Shell makes one line of the words, which a shell interprets.
	Shell bool
	// Env holds pairs of the form NAME=value.
	Env []string
	TTY bool
	// Timeout ends the command; 0 means never.
	Timeout time.Duration
}

// RegisterTarget adds --target.
func (c *Command) RegisterTarget(f *plugin.Factory, command *cobra.Command) {
	command.Flags().StringVar(&c.Target, "target", "", "Target of the pool; the same as POOL/TARGET")
	plugin.CompleteFlag(command, "target", f.CompleteTarget)
}

// ForClient returns the command as the client takes it.
func (c *Command) ForClient() client.Command {
	command := client.Command{
		Target: c.Target, Container: c.Place.Container, Pod: c.Place.Pod, Namespace: c.Place.Namespace,
		Env: c.variables(), Timeout: c.Timeout,
	}
	switch {
	case c.IsEmpty() && c.Place.IsTarget(): // the login shell of a host
	case c.IsEmpty():
		command.Argv = []string{"sh"} // a container has no login that would choose a shell
	case c.Shell:
		command.Shell = c.line()
	default:
		command.Argv = c.Words
	}
	return command
}

func (c *Command) line() string { return strings.Join(c.Words, " ") }

func (c *Command) variables() map[string]string {
	env := make(map[string]string, len(c.Env))
	for _, pair := range c.Env {
		name, text, _ := strings.Cut(pair, "=")
		env[name] = text
	}
	return env
}

// Read takes POOL[/TARGET] and the command behind -- from the arguments.
func (c *Command) Read(command *cobra.Command, args []string) error {
	pool, err := c.ReadAfter(command, args, "pool")
	if err != nil {
		return err
	}
	return c.ReadPool(command, []string{pool})
}

// ReadAfter takes the command behind -- from the arguments, and returns the name
// before it, which is that of a thing such as a pool.
func (c *Command) ReadAfter(command *cobra.Command, args []string, thing string) (name string, err error) {
	dash := command.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	switch {
	case dash == 0:
		return "", fmt.Errorf("the name of a %s is missing: it comes first", thing)
	case dash > 1:
		return "", fmt.Errorf("write -- before the command: %s -- %s", args[0], strings.Join(args[1:], " "))
	}
	c.Words = args[dash:]
	return args[0], nil
}

// ReadPool takes POOL[/TARGET] from the first argument.
func (c *Command) ReadPool(_ *cobra.Command, args []string) error {
	pool, target, err := cluster.PoolAndTarget(args[0])
	if err != nil {
		return err
	}
	if target != "" && c.Target != "" && target != c.Target {
		return fmt.Errorf("%s and --target %s name different targets", args[0], c.Target)
	}
	c.Pool = pool
	if target != "" {
		c.Target = target
	}
	return nil
}

// notFound is the exit code of shells, containers and pods for a program that does
// not exist.
const notFound = 127

// Note returns what to say about a command that ended with an exit code: that it looks
// like a line for a shell, if no program was found. It is "" if there is nothing to say.
func (c *Command) Note(exitCode int) string {
	if exitCode != notFound || c.Shell || len(c.Words) == 0 {
		return ""
	}
	first := c.Words[0]
	name, _, assigns := strings.Cut(first, "=")
	switch {
	case len(c.Words) == 1 && strings.ContainsAny(first, " \t\n|&;<>()$`*?"):
		return fmt.Sprintf("%q was taken for the name of one program; with --shell the target's shell interprets it", first)
	case assigns && !strings.Contains(name, "/"):
		return fmt.Sprintf("%q was taken for the name of a program; with --shell the target's shell sets the variable", first)
	}
	return ""
}

// IsEmpty reports whether there is nothing to run.
func (c *Command) IsEmpty() bool { return len(c.Words) == 0 || c.Shell && c.line() == "" }

// Validate refuses what the API would refuse.
func (c *Command) Validate() error {
	if c.Pool == "" {
		return errors.New("the name of the pool is missing")
	}
	if err := c.Place.Validate(); err != nil {
		return err
	}
	for _, pair := range c.Env {
		if name, _, ok := strings.Cut(pair, "="); !ok || name == "" {
			return fmt.Errorf("--env %q is not of the form NAME=value", pair)
		}
	}
	return c.ValidateWords()
}

// ValidateWords keeps what is to be run within the bounds of the API.
func (c *Command) ValidateWords() error {
	if c.Timeout < 0 {
		return fmt.Errorf("--timeout %s is negative", c.Timeout)
	}
	words, size := c.Words, 0
	if c.Shell {
		words = []string{c.line()}
	}
	if len(words) > livev1alpha1.MaxCommandArguments {
		return fmt.Errorf("the command has %d words, and at most %d are allowed", len(words), livev1alpha1.MaxCommandArguments)
	}
	for _, word := range words {
		size += len(word)
	}
	if size > livev1alpha1.MaxCommandBytes {
		return fmt.Errorf("the command has %d bytes, and at most %d are allowed", size, livev1alpha1.MaxCommandBytes)
	}
	return nil
}

// Place is a container or a pod in a target. It is zero for the target itself.
type Place struct {
	Container string
	Pod       string
	// Namespace of the pod. The namespace of -n is the pool's.
	Namespace string
}

// Register adds the flags of a place.
func (p *Place) Register(flags *pflag.FlagSet) {
	flags.VarP(nameValue{&p.Container, []string{"/", "container/"}}, "container", "c",
		"Container to run in: on a Docker engine, or in the pod")
	p.RegisterPod(flags)
}

// RegisterPod adds the flags of a place that can only be a pod.
func (p *Place) RegisterPod(flags *pflag.FlagSet) {
	flags.Var(nameValue{&p.Pod, []string{"pod/", "pods/", "po/"}}, "pod", "Pod to use, on a target that is a cluster")
	flags.StringVar(&p.Namespace, "pod-namespace", "", "Namespace of the pod; by default, that of the target")
}

// nameValue is a flag with a name, which docker and kubectl print and take with a
// prefix, too: /web and pod/web-0.
type nameValue struct {
	name     *string
	prefixes []string
}

// Set implements pflag.Value.
func (v nameValue) Set(text string) error {
	for _, prefix := range v.prefixes {
		if name, ok := strings.CutPrefix(text, prefix); ok {
			text = name
			break
		}
	}
	*v.name = text
	return nil
}

// String implements pflag.Value.
func (v nameValue) String() string {
	if v.name == nil {
		return ""
	}
	return *v.name
}

// Type implements pflag.Value.
func (v nameValue) Type() string { return "string" }

// IsTarget reports whether the place is the target itself.
func (p *Place) IsTarget() bool { return p.Container == "" && p.Pod == "" }

// Validate refuses flags that name no place.
func (p *Place) Validate() error {
	switch {
	case p.Namespace != "" && p.Pod == "":
		return errors.New("--pod-namespace says where a pod is: name the pod with --pod")
	case strings.Contains(p.Pod, "/"):
		return fmt.Errorf("--pod %q is not a valid name: write only the name, and its namespace with --pod-namespace", p.Pod)
	case strings.Contains(p.Container, "/"):
		return fmt.Errorf("--container %q is neither a name nor an ID", p.Container)
	}
	return nil
}
