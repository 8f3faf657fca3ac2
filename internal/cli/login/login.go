// Package login lets runs of the plugin share the token that a program of the kubeconfig
// prints. Such a program, as those of cloud providers, often takes longer than a command.
//
//	err := login.Share(config)
//
// A user asks for it by CONNPOOL_TOKEN_CACHE, because the answer of such a program may depend
// on more than this package can see: a token is still that of the old login after the user has
// logged in as another one elsewhere. What it can see is a part of what a token is for: the
// kubeconfig and the environment.
//
// Trade-off: the token is in a file, which only its owner can read. Certificates that such
// programs return are not kept.
package login

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/connpool/connpool/internal/cli/memory"
)

// Variable is the variable of the environment that says for how long a token is shared.
const Variable = "CONNPOOL_TOKEN_CACHE"

// longest is the most that it may say.
const longest = 15 * time.Minute

// ofTerminals are variables that differ between terminals and folders, and say nothing of
// the user.
var ofTerminals = []string{"PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES"}

// Share lets requests with a config use the token that the program of the config has printed
// in an earlier run. If the server refuses that, the program is asked again. Without the
// variable, or without such a program, it changes nothing.
func Share(config *rest.Config) error {
	text := os.Getenv(Variable)
	if text == "" {
		return nil
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 || age > longest {
		return fmt.Errorf("%s: %q is not a valid value: use a duration of at most 15m, such as 5m", Variable, text)
	}
	if age == 0 || config.ExecProvider == nil || config.BearerToken != "" || config.BearerTokenFile != "" || config.Username != "" {
		return nil
	}
	t := &tokens{memory: memory.OfUser("tokens", age), user: rest.CopyConfig(config)}
	t.user.WrapTransport = nil
	t.memory.Also = append(environment(), fmt.Sprint(config.ExecProvider.Config))
	t.use(config)
	return nil
}

// environment returns what a program may take its user from.
func environment() []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(os.Environ())), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(ofTerminals, name)
	})
}

// tokens are those of one user.
type tokens struct {
	memory memory.Memory
	// user is the configuration as the kubeconfig has it, with the program.
	user *rest.Config
	// noted is done when the token of this run has been remembered.
	noted sync.Once
}

// kept is what is remembered.
type kept struct {
	Token string `json:"token"`
}

func (t *tokens) use(config *rest.Config) {
	var known kept
	if !t.memory.Recall(t.user, &known) || known.Token == "" {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return noting{next, t} })
		return
	}
	config.BearerToken = known.Token // with a token, client-go does not ask the program
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &recalling{next: next, tokens: t} })
}

// noting remembers the token of requests that the server takes.
type noting struct {
	http.RoundTripper

	tokens *tokens
}

// RoundTrip implements http.RoundTripper.
func (n noting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := n.RoundTripper.RoundTrip(request)
	token, ok := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	if ok && err == nil && response.StatusCode != http.StatusUnauthorized {
		n.tokens.noted.Do(func() { n.tokens.memory.Remember(n.tokens.user, kept{token}) })
	}
	return response, err
}

// recalling sends requests with a token of an earlier run, for as long as the server takes it.
type recalling struct {
	next    http.RoundTripper
	tokens  *tokens
	refused atomic.Bool
}

// RoundTrip implements http.RoundTripper. A request that the server has refused for its token
// has done nothing, so it is sent again, unless its body is gone.
func (r *recalling) RoundTrip(request *http.Request) (*http.Response, error) {
	if r.refused.Load() {
		return r.ask(request)
	}
	response, err := r.next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	r.refused.Store(true)
	r.tokens.memory.Forget(r.tokens.user)
	if request.Body != nil && request.Body != http.NoBody {
		return response, nil
	}
	_ = response.Body.Close()
	return r.ask(request)
}

// ask sends a request with the token that the program prints now.
func (r *recalling) ask(request *http.Request) (*http.Response, error) {
	asking, err := r.tokens.user.TransportConfig()
	if err != nil {
		return nil, err
	}
	authenticated, err := transport.HTTPWrappersForConfig(asking, noting{r.next, r.tokens})
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.Header.Del("Authorization")
	return authenticated.RoundTrip(request)
}
