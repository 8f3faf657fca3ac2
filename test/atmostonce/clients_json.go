package atmostonce

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// JSON makes a client that sends a plain POST by net/http and keeps connections, as a
// program would that has no library of ours. It needs a token and an authority in the
// Config.
func (p Pool) JSON() (Client, error) {
	address, err := p.url(nil)
	if err != nil {
		return Client{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.Config.CAData)
	verify := &tls.Config{RootCAs: roots, ServerName: p.Config.ServerName, MinVersion: tls.VersionTLS12}
	transport := &http.Transport{TLSClientConfig: verify, MaxIdleConnsPerHost: 100}
	plain := &http.Client{Transport: transport}
	return Client{"net/http", func(ctx context.Context, shell string) Report {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(p.execObject(shell)))
		if err != nil {
			return notStarted(err)
		}
		request.Header.Set("Authorization", "Bearer "+p.Config.BearerToken)
		request.Header.Set("Content-Type", "application/json")
		response, err := plain.Do(request)
		if err != nil {
			return failedRequest(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return unknown(err)
		}
		return answer(response.StatusCode, body)
	}, transport.CloseIdleConnections}, nil
}

func (p Pool) execObject(shell string) []byte {
	body, err := json.Marshal(&live.Exec{Spec: live.ExecSpec{Shell: shell, Container: p.Container, Pod: p.Pod}})
	if err != nil {
		panic(err) // strings always encode
	}
	return body
}

// failedRequest reports a request without an answer. Unless no server was reached,
// the outcome is unknown.
func failedRequest(err error) Report {
	if isDial(err) {
		return notStarted(err)
	}
	return unknown(err)
}

// isDial reports whether a connection could not be made, to a server or to a proxy. Nothing
// was sent then.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "dial" || op.Op == "proxyconnect")
}

func answer(code int, body []byte) Report {
	if code == http.StatusOK {
		return result(body)
	}
	var status metav1.Status
	_ = json.Unmarshal(body, &status) // it is not a Status if a proxy has answered
	return refusal(code, &status)
}

// refusal reports NotStarted if the operator says so, or if an API server refused.
func refusal(code int, status *metav1.Status) Report {
	err := fmt.Errorf("%d %s", code, status.Message)
	if outcomeOf(status) == live.OutcomeNotStarted || code >= 400 && code < 500 {
		return notStarted(err)
	}
	return unknown(err)
}

func result(body []byte) Report {
	var exec live.Exec
	if err := json.Unmarshal(body, &exec); err != nil {
		return unknown(err)
	}
	report := Report{Outcome: exec.Status.Outcome, Output: []byte(exec.Status.Stdout), ExitCode: -1}
	if exec.Status.StdoutBytes != nil {
		report.Output = exec.Status.StdoutBytes
	}
	if code := exec.Status.ExitCode; code != nil {
		report.ExitCode = int(*code)
	}
	if report.Outcome != live.OutcomeCompleted {
		report.Err = fmt.Errorf("%s: %s", exec.Status.Reason, exec.Status.Message)
	}
	return report
}

// REST makes a client that sends the same by client-go's REST client, as controllers
// and `kubectl create --raw` do. That one sends a request again when an answer asks
// for it.
func (p Pool) REST() (Client, error) {
	config := rest.CopyConfig(p.Config)
	config.GroupVersion, config.APIPath = &live.GroupVersion, "/apis"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	config.QPS = -1
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return Client{}, err
	}
	c, err := rest.RESTClientForConfigAndClient(config, transport)
	if err != nil {
		return Client{}, err
	}
	return Client{"rest.Client", func(ctx context.Context, shell string) Report {
		answer := c.Post().Namespace(p.Namespace).Resource("connectionpools").Name(p.Name).SubResource("exec").
			SetHeader("Content-Type", "application/json").Body(p.execObject(shell)).Do(ctx)
		err := answer.Error()
		if refused, ok := errors.AsType[*apierrors.StatusError](err); ok {
			return refusal(int(refused.ErrStatus.Code), &refused.ErrStatus)
		}
		if err != nil {
			return failedRequest(err)
		}
		body, err := answer.Raw()
		if err != nil {
			return unknown(err)
		}
		return result(body)
	}, transport.CloseIdleConnections}, nil
}
