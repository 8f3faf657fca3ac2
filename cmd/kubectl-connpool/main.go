// Command kubectl-connpool is the kubectl plugin of connpool. Under the name
// connpool it works without kubectl.
package main

import (
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	// A kubeconfig may let its user log in with OpenID Connect.
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc"

	"github.com/connpool/connpool/internal/cli"
	"github.com/connpool/connpool/internal/version"
)

// set is the version that the build sets.
var set = version.Unset

func main() {
	os.Exit(cli.Main(os.Args, version.Of(set), genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
}
