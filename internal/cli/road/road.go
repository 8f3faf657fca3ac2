// Package road chooses the way on which the plugin reaches the operator: straight to the
// Service of the live API, or through kube-apiserver.
//
//	chosen, err := road.Chooser{Mode: mode, Memory: road.UserMemory()}.Choose(ctx, config)
//	c, err := chosen.Client()
//
// It asks before a command is sent, and what it asks starts nothing, so that a way that does
// not work costs no command its outcome. What it has found is remembered between runs.
//
// Trade-off: where the Service cannot be reached, the first command of some minutes waits
// for at most half a second until that is known.
package road

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/client/direct"
	"github.com/connpool/connpool/internal/cli/memory"
)

// Mode is when requests go straight to the operator.
type Mode string

// The modes. The zero Mode is Auto.
const (
	// Auto goes straight if that works, and through kube-apiserver otherwise.
	Auto Mode = "auto"
	// Never goes through kube-apiserver.
	Never Mode = "never"
	// Always goes straight, or fails.
	Always Mode = "always"
)

// Modes are all of them.
var Modes = []string{string(Auto), string(Never), string(Always)}

// Set implements pflag.Value.
func (m *Mode) Set(text string) error {
	if !slices.Contains(Modes, text) {
		return fmt.Errorf("%q is not a valid value: use %s", text, strings.Join(Modes, ", "))
	}
	*m = Mode(text)
	return nil
}

// String implements pflag.Value.
func (m *Mode) String() string { return string(*m) }

// Type implements pflag.Value.
func (m *Mode) Type() string { return "string" }

// How long the way to the operator is looked for.
const (
	// checkPatience is for a Service that has worked before, and that is near.
	checkPatience = 250 * time.Millisecond
	// autoPatience is for all questions of a way that may not exist.
	autoPatience = 500 * time.Millisecond
	// alwaysPatience is for a way that has to exist.
	alwaysPatience = 10 * time.Second
)

// Road is the way that was chosen.
type Road struct {
	// Config reaches the live API.
	Config *rest.Config
	// IsDirect reports whether it leads straight to the operator.
	IsDirect bool
	// Why says why it does not, or is empty.
	Why string

	// connected has a connection that was verified, if the way was remembered.
	connected *client.Client
}

// Client returns a client that takes the way. If it was verified, its connection is not
// opened twice.
func (r Road) Client() (*client.Client, error) {
	if r.connected != nil {
		return r.connected, nil
	}
	return client.New(r.Config)
}

// String says which way it is, for a person.
func (r Road) String() string {
	switch {
	case r.IsDirect:
		return "straight to the operator at " + r.Config.Host
	case r.Why == "":
		return "through kube-apiserver"
	}
	return "through kube-apiserver: " + r.Why
}

// maxAge is how long what was found is believed.
const maxAge = 10 * time.Minute

// UserMemory returns what was found by the user of this process. It holds no credentials.
func UserMemory() memory.Memory { return memory.OfUser("roads", maxAge) }

// found is what a run has found.
type found struct {
	// Address of the Service, and the authority that certifies it; "" if it cannot be used.
	Address   string `json:"address,omitempty"`
	Authority []byte `json:"authority,omitempty"`
	// Why it cannot be used.
	Why string `json:"why,omitempty"`
}

// Chooser chooses the way.
type Chooser struct {
	Mode   Mode
	Finder direct.Finder
	// Memory has what earlier runs found.
	Memory memory.Memory
	// Anew looks again instead of believing the memory.
	Anew bool
}

// Choose returns the way for the user of a configuration, which is for kube-apiserver. Only
// with the mode Always, there may be none.
func (c Chooser) Choose(ctx context.Context, config *rest.Config) (Road, error) {
	if c.Mode == Never {
		return Road{Config: config}, nil
	}
	var known found
	switch {
	case !c.Memory.Recall(config, &known) || c.Anew:
	case known.Address == "" && known.Why != "" && c.Mode != Always:
		return Road{Config: config, Why: known.Why}, nil
	case known.Address != "" && len(known.Authority) > 0:
		if checked, err := c.checked(ctx, config, known); err == nil {
			return checked, nil
		}
	}
	return c.look(ctx, config)
}

// checked returns the remembered way if it still leads to the operator.
func (c Chooser) checked(ctx context.Context, config *rest.Config, known found) (Road, error) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	here := c.Finder.Config(config, known.Address, known.Authority)
	connected, err := client.New(here)
	if err != nil {
		return Road{}, err
	}
	return Road{Config: here, IsDirect: true, connected: connected}, connected.Connect(ctx)
}

// look finds the way, and remembers it, or that there is none.
func (c Chooser) look(ctx context.Context, config *rest.Config) (Road, error) {
	patience := autoPatience
	if c.Mode == Always {
		patience = alwaysPatience
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	here, err := c.Finder.Find(bounded, config)
	if ctx.Err() != nil {
		return Road{}, context.Cause(ctx) // it says nothing of the way
	}
	if err == nil {
		c.Memory.Remember(config, found{Address: addressOf(here), Authority: here.CAData})
		return Road{Config: here, IsDirect: true}, nil
	}
	c.Memory.Remember(config, found{Why: err.Error()})
	if c.Mode == Always {
		return Road{}, err
	}
	return Road{Config: config, Why: err.Error()}, nil
}

func addressOf(here *rest.Config) string { return strings.TrimPrefix(here.Host, "https://") }
