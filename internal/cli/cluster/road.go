package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/connpool/connpool/client/direct"
	"github.com/connpool/connpool/internal/cli/exit"
	"github.com/connpool/connpool/internal/cli/road"
	"github.com/connpool/connpool/internal/cli/tracecontext"
)

// directVariable is the variable of the environment that stands for --direct.
const directVariable = "CONNPOOL_DIRECT"

// DirectUsage is the help of --direct.
const DirectUsage = "Go straight to the operator's Service, past kube-apiserver: auto (where that works), never or always. " +
	"The default is $" + directVariable + ", or auto"

// DirectModes are the values of --direct.
var DirectModes = road.Modes

// directMode returns the mode that the flag or the environment says.
func (c *Cluster) directMode() (road.Mode, error) {
	if c.Direct != "" {
		return c.Direct, nil
	}
	mode := road.Auto
	if text := os.Getenv(directVariable); text != "" {
		if err := mode.Set(text); err != nil {
			return "", fmt.Errorf("%s: %w", directVariable, err)
		}
	}
	return mode, nil
}

// Road returns the way to the live API. Anew looks for it again, instead of believing what
// earlier commands found.
func (c *Cluster) Road(ctx context.Context, anew bool) (road.Road, error) {
	config, err := c.restConfig()
	if err != nil {
		return road.Road{}, err
	}
	mode, err := c.directMode()
	if err != nil {
		return road.Road{}, err
	}
	chosen, err := road.Chooser{
		Mode: mode, Finder: direct.Finder{Dial: c.Dial}, Memory: road.UserMemory(), Anew: anew,
	}.Choose(ctx, tracecontext.Joined(config))
	if err != nil {
		return road.Road{}, c.noDirectWay(ctx, err)
	}
	c.logging.Note("requests to the live API go " + chosen.String())
	return chosen, nil
}

// noDirectWay explains that the operator cannot be reached as --direct=always asks.
func (c *Cluster) noDirectWay(ctx context.Context, err error) error {
	asked := Asked{
		Group: direct.APIServices.Group, Resource: direct.APIServices.Resource, Verbs: []string{"get"}, Name: direct.APIService,
	}
	err = fmt.Errorf("there is no direct way to the operator: %w", err)
	switch {
	case lacksRole(err):
		return c.Explain(ctx, err, asked)
	case errors.Is(err, direct.ErrUnfit):
		return exit.Hint(err, "With --direct=auto requests go through kube-apiserver.")
	case apierrors.IsUnauthorized(err):
		return exit.Hint(err, "The operator takes tokens of the cluster, and certificates of its authority. "+
			"With --direct=auto requests go through kube-apiserver.")
	}
	return exit.Hint(err, "The Service can be reached by pods of the cluster. From elsewhere, --direct=auto goes through kube-apiserver.")
}
