package atmostonce

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/client"
)

// Client sends commands.
type Client struct {
	Name string
	// Run sends a command line once.
	Run func(ctx context.Context, shell string) Report
	// Close closes the connections that the client keeps.
	Close func()
}

// Pool is the pool to which commands are sent.
type Pool struct {
	// Config leads to the operator's own port or to kube-apiserver.
	Config          *rest.Config
	Namespace, Name string
	// Container and Pod are the place in the target where commands run; empty on
	// hosts.
	Container, Pod string
}

// Clients returns one client of each kind. Their names begin with the prefix.
func (p Pool) Clients(prefix string) (clients []Client, err error) {
	for _, connect := range []func() (Client, error){p.JSON, p.REST, p.WebSocket, p.SPDY, p.Fallback, p.Exec, p.Many, p.Stream} {
		c, err := connect()
		if err != nil {
			return nil, err
		}
		c.Name = prefix + c.Name
		clients = append(clients, c)
	}
	return clients, nil
}

// url returns the address of the pool's exec subresource.
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

// Exec makes a client that uses the JSON form of our Go client.
func (p Pool) Exec() (Client, error) {
	c, err := client.New(p.Config)
	if err != nil {
		return Client{}, err
	}
	pool := c.Pool(p.Namespace, p.Name)
	return Client{"client.Exec", func(ctx context.Context, shell string) Report {
		result, err := pool.Exec(ctx, p.command(shell))
		return clientReport(result, result.Stdout, err)
	}, c.CloseIdleConnections}, nil
}

// Many makes a client that uses the form for many targets of our Go client, of a pool that
// has one.
func (p Pool) Many() (Client, error) {
	c, err := client.New(p.Config)
	if err != nil {
		return Client{}, err
	}
	pool := c.Pool(p.Namespace, p.Name)
	return Client{"client.Run", func(ctx context.Context, shell string) Report {
		var reports []Report
		err := pool.Run(ctx, p.command(shell), client.Targets{All: true}, func(r client.TargetResult) {
			reports = append(reports, clientReport(r.Result, r.Stdout, r.Err))
		})
		switch {
		case len(reports) == 1:
			return reports[0]
		case err != nil:
			return clientReport(client.Result{}, nil, err)
		}
		return unknown(fmt.Errorf("there are results of %d targets", len(reports)))
	}, c.CloseIdleConnections}, nil
}

// Stream makes a client that uses our Go client's WebSocket.
func (p Pool) Stream() (Client, error) {
	c, err := client.New(p.Config)
	if err != nil {
		return Client{}, err
	}
	pool := c.Pool(p.Namespace, p.Name)
	return Client{"client.Stream", func(ctx context.Context, shell string) Report {
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

// outcomeOf returns the outcome that a Status states; empty when it states none.
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
