package cli

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
)

// versionOptions print versions.
type versionOptions struct {
	*factory
	output output
	client bool
}

// versions of the parts.
type versions struct {
	Client   string `json:"client"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Server is the operator's, absent if it was not asked or did not answer.
	Server string `json:"server,omitempty"`
	// Error says why the operator's is absent.
	Error string `json:"error,omitempty"`
}

// newVersionCommand prints versions.
func newVersionCommand(f *factory) *cobra.Command {
	o := &versionOptions{factory: f}
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and of the operator",
		Example: f.examples(
			"both", "version",
			"only this program's, without asking the cluster", "version --client"),
		Args: cobra.NoArgs,
		RunE: runs(o),
	}
	command.Flags().BoolVar(&o.client, "client", false, "Only this program's: ask nobody")
	o.output.register(command, outputJSON, outputYAML)
	return command
}

func (o *versionOptions) complete(*cobra.Command, []string) error { return nil }

func (o *versionOptions) validate() error { return o.output.validate() }

func (o *versionOptions) run(ctx context.Context) error {
	v := versions{Client: o.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if !o.client {
		v.Server, v.Error = o.ask(ctx)
	}
	if o.output.machine() {
		return o.output.encode(o.Out, v)
	}
	fmt.Fprintf(o.Out, "Client: %s (%s, %s)\n", v.Client, v.Go, v.Platform)
	switch {
	case v.Server != "":
		fmt.Fprintf(o.Out, "Server: %s\n", oneLine(v.Server))
	case v.Error != "":
		fmt.Fprintf(o.ErrOut, "Server: %s\n", oneLine(v.Error))
	}
	return nil
}

func (o *versionOptions) ask(ctx context.Context) (version, why string) {
	plain, err := o.plain()
	if err != nil {
		return "", "not asked: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	version, err = serverVersion(ctx, plain)
	if err != nil {
		return "", "does not answer: " + err.Error()
	}
	return version, ""
}

// liveOpenAPI describes the live API. It is the one document of the operator that
// kube-apiserver passes on and that carries a version.
const liveOpenAPI = "/openapi/v3/apis/" + livev1alpha1.GroupName + "/v1alpha1"

// serverVersion asks the operator for its version.
func serverVersion(ctx context.Context, plain plainClient) (string, error) {
	var document struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	if err := plain.get(ctx, liveOpenAPI, &document); err != nil {
		return "", err
	}
	if document.Info.Version == "" {
		return "unknown", nil
	}
	return document.Info.Version, nil
}
