package cli

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/cli/plugin"
)

// versionOptions print versions.
type versionOptions struct {
	*plugin.Factory
	client bool
}

// versionTimeout bounds how long the operator may take to tell its version.
const versionTimeout = 10 * time.Second

// versions of the parts.
type versions struct {
	Client   string `json:"client"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Server is the operator's version, unless it was not asked or did not answer.
	Server string `json:"server,omitempty"`
	// Error says why Server is empty.
	Error string `json:"error,omitempty"`
}

// newVersion returns the command version.
func newVersion(f *plugin.Factory) *cobra.Command {
	o := &versionOptions{Factory: f}
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and of the operator",
		Example: f.Examples(
			"both", "version",
			"only this program's, without asking the cluster", "version --client"),
		Args: cobra.NoArgs,
		RunE: f.RunE(nil, nil, o.run),
	}
	command.Flags().BoolVar(&o.client, "client", false, "Only this program's, without asking the cluster")
	f.Output.Register(command, plugin.JSON, plugin.YAML)
	return command
}

func (o *versionOptions) run(ctx context.Context) error {
	v := versions{Client: o.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if !o.client {
		v.Server, v.Error = o.ask(ctx)
	}
	if o.Output.IsMachine() {
		return o.Output.Encode(o.Out, v)
	}
	fmt.Fprintf(o.Out, "Client: %s (%s, %s)\n", v.Client, v.Go, v.Platform)
	switch {
	case v.Server != "":
		fmt.Fprintf(o.Out, "Server: %s\n", display.OneLine(v.Server))
	case v.Error != "":
		fmt.Fprintf(o.ErrOut, "Server: %s\n", display.OneLine(v.Error))
	}
	return nil
}

func (o *versionOptions) ask(ctx context.Context) (version, why string) {
	plain, err := o.Cluster.Plain()
	if err != nil {
		return "", "not asked: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	version, err = plain.OperatorVersion(ctx)
	if err != nil {
		return "", "does not answer: " + err.Error()
	}
	return version, ""
}
