package atmostonce

import (
	"context"
	"errors"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// Way is one client by which commands are sent.
type Way struct {
	Name string
	// Run sends a command line once.
	Run func(ctx context.Context, shell string) Report
	// Close closes connections that are kept.
	Close func()
}

// Pool is where commands are sent.
type Pool struct {
	// Config leads to the operator's own port or to kube-apiserver.
	Config          *rest.Config
	Namespace, Name string
	// Container and Pod are where in the target commands run; empty on hosts.
	Container, Pod string
}

// Ways are all that there are. Their names begin with the prefix.
func (p Pool) Ways(prefix string) (ways []Way, err error) {
	for _, connect := range []func() (Way, error){p.JSON, p.REST, p.WebSocket, p.SPDY, p.Fallback, p.Exec, p.Stream} {
		way, err := connect()
		if err != nil {
			return nil, err
		}
		way.Name = prefix + way.Name
		ways = append(ways, way)
	}
	return ways, nil
}

// url of the exec subresource.
func (p Pool) url(query url.Values) (*url.URL, error) {
	u, err := url.Parse(p.Config.Host)
	if err != nil {
		return nil, err
	}
	u = u.JoinPath("apis", live.GroupVersion.Group, live.GroupVersion.Version,
		"namespaces", p.Namespace, "connectionpools", p.Name, "exec")
	u.RawQuery = query.Encode()
	return u, nil
}

func notStarted(err error) Report { return Report{Outcome: live.OutcomeNotStarted, Err: err} }

func unknown(err error) Report { return Report{Outcome: live.OutcomeUnknown, Err: err} }

// Exec is the JSON form by our Go client.
func (p Pool) Exec() (Way, error) {
	c, err := client.New(p.Config)
	if err != nil {
		return Way{}, err
	}
	pool := c.Pool(p.Namespace, p.Name)
	return Way{"client.Exec", func(ctx context.Context, shell string) Report {
		result, err := pool.Exec(ctx, p.command(shell))
		return clientReport(result, result.Stdout, err)
	}, c.CloseIdleConnections}, nil
}

// Stream is a WebSocket by our Go client.
func (p Pool) Stream() (Way, error) {
	c, err := client.New(p.Config)
	if err != nil {
		return Way{}, err
	}
	pool := c.Pool(p.Namespace, p.Name)
	return Way{"client.Stream", func(ctx context.Context, shell string) Report {
		var output buffer
		result, err := pool.Stream(ctx, p.command(shell), client.Streams{Stdout: &output})
		return clientReport(result, output.bytes(), err)
	}, c.CloseIdleConnections}, nil
}

func (p Pool) command(shell string) client.Command {
	return client.Command{Shell: shell, Container: p.Container, Pod: p.Pod}
}

func clientReport(result client.Result, output []byte, err error) Report {
	report := Report{Outcome: live.OutcomeCompleted, ExitCode: result.ExitCode, Output: output, Err: err}
	if _, ok := errors.AsType[*client.ExitError](err); err == nil || ok {
		return report
	}
	report.Outcome = live.OutcomeUnknown
	if errors.Is(err, client.ErrNotStarted) {
		report.Outcome = live.OutcomeNotStarted
	}
	return report
}

// outcomeOf reads what a Status says of the outcome; empty when it says nothing.
func outcomeOf(status *metav1.Status) live.Outcome {
	if status.Details == nil {
		return ""
	}
	for _, cause := range status.Details.Causes {
		if cause.Type == live.CauseOutcome {
			return live.Outcome(cause.Message)
		}
	}
	return ""
}
