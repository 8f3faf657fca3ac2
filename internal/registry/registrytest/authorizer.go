package registrytest

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Authorizer permits everything until told otherwise, and remembers what it was
// asked.
type Authorizer struct {
	// Answer is what it answers; nil permits everything.
	Answer func(authorizer.Attributes) (authorizer.Decision, string, error)

	mu    sync.Mutex
	asked []authorizer.Attributes
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (a *Authorizer) Authorize(_ context.Context, asked authorizer.Attributes) (authorizer.Decision, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, asked)
	if a.Answer == nil {
		return authorizer.DecisionAllow, "", nil
	}
	return a.Answer(asked)
}

// Decide makes it give that answer from now on.
func (a *Authorizer) Decide(decision authorizer.Decision, err error) {
	a.DecideBy(func(authorizer.Attributes) (authorizer.Decision, string, error) { return decision, "", err })
}

// DecideBy makes it answer so from now on.
func (a *Authorizer) DecideBy(answer func(authorizer.Attributes) (authorizer.Decision, string, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Answer = answer
}

// Questions returns what it was asked.
func (a *Authorizer) Questions() []authorizer.Attributes {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}
