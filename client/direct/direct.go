// Package direct finds the way to the operator that does not pass through kube-apiserver:
// the Service of the live API, which programs in the cluster can reach.
//
//	config, err := rest.InClusterConfig()
//	...
//	if here, err := (direct.Finder{}).Find(ctx, config); err == nil {
//		config = here
//	}
//	c, err := client.New(config)
//
// What it finds is verified: kube-apiserver says which Service it is and which authority
// certifies it, and the Service has to show such a certificate, under its own name, before
// it gets the credentials of the user. Find runs no command, so after an error it is safe to
// go through kube-apiserver.
//
// Trade-offs: the user needs the right to get the APIService, which most users have only if
// they are given it. The authority is that of the moment: a program that runs for years asks
// again when the verification fails.
package direct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// APIService is the object of kube-apiserver that says which Service the live API has.
var APIService = live.GroupVersion.Version + "." + live.GroupName

// APIServices is the resource of that object.
var APIServices = schema.GroupResource{Group: "apiregistration.k8s.io", Resource: "apiservices"}

// ErrUnfit means that the configuration can only be used with kube-apiserver.
var ErrUnfit = errors.New("only kube-apiserver takes these credentials")

// maxAnswerBytes bounds the answers that are read.
const maxAnswerBytes = 1 << 20

// Finder finds the Service. The zero Finder is ready for use.
type Finder struct {
	// Dial connects to the Service; nil for the dialer of Go. A program outside the cluster
	// can pass one that knows a way in.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Find returns a configuration with which the same user reaches the Service: the credentials
// are those of config, which is for kube-apiserver. It asks kube-apiserver for the Service,
// and the Service whether it accepts the user. The context bounds both. The error says why
// there is no such way: ErrUnfit, an error of apierrors that kube-apiserver or the Service
// answered, or one of the network.
func (f Finder) Find(ctx context.Context, config *rest.Config) (*rest.Config, error) {
	if err := fits(config); err != nil {
		return nil, err
	}
	var registered apiService
	if err := get(ctx, config, "/apis/apiregistration.k8s.io/v1/apiservices/"+APIService, &registered); err != nil {
		return nil, fmt.Errorf("read the APIService %s: %w", APIService, err)
	}
	service := registered.Spec.Service
	if service == nil || len(registered.Spec.CABundle) == 0 {
		return nil, fmt.Errorf("the APIService %s names no Service, or no authority that certifies it", APIService)
	}
	here := f.Config(config, service.address(), registered.Spec.CABundle)
	var discovered metav1.APIResourceList
	if err := get(ctx, here, "/apis/"+live.GroupVersion.String(), &discovered); err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // it only repeats the address
		}
		return nil, fmt.Errorf("reach the operator at %s: %w", here.Host, err)
	}
	return here, nil
}

// fits returns an error if the operator would not take the user of a configuration for the
// one that kube-apiserver does.
func fits(config *rest.Config) error {
	switch {
	case config.Insecure:
		return fmt.Errorf("%w: kube-apiserver itself is not verified, so its word for the operator's certificate is not, either", ErrUnfit)
	case config.Impersonate.UserName != "" || config.Impersonate.UID != "" || len(config.Impersonate.Groups) > 0:
		return fmt.Errorf("%w: to act as another user is a right that it grants", ErrUnfit)
	case config.Username != "":
		return fmt.Errorf("%w: they are a name and a password", ErrUnfit)
	}
	return nil
}

// apiService is what of an APIService matters here. Its own types would bring a module.
type apiService struct {
	Spec struct {
		Service  *serviceReference `json:"service"`
		CABundle []byte            `json:"caBundle"`
	} `json:"spec"`
}

type serviceReference struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Port      *int32 `json:"port"`
}

// address returns the name and the port of a Service. Its certificate has that name.
func (s *serviceReference) address() string {
	port := int32(443)
	if s.Port != nil {
		port = *s.Port
	}
	return net.JoinHostPort(s.Name+"."+s.Namespace+".svc", strconv.Itoa(int(port)))
}

// Config returns a configuration for an address that was found earlier, and the authority
// that certifies it, in PEM. It does no I/O.
func (f Finder) Config(config *rest.Config, address string, authority []byte) *rest.Config {
	here := rest.CopyConfig(config)
	here.Host, here.APIPath, here.Dial = "https://"+address, "", f.Dial
	here.CAFile, here.CAData, here.ServerName = "", authority, ""
	// A proxy is for ways out of the cluster, and a proxy-url for that to kube-apiserver.
	here.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // that is how it says: none
	return here
}

// get reads an object as JSON.
func get(ctx context.Context, config *rest.Config, path string, into any) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath(path).String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	once := *client
	once.CheckRedirect = refuseRedirect
	response, err := once.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return refusal(response.StatusCode, body)
	}
	return json.Unmarshal(body, into)
}

// refuseRedirect keeps credentials from going to another server.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// refusal returns the error for an answer that is not a success.
func refusal(code int, body []byte) error {
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewGenericServerResponse(code, http.MethodGet, APIServices, APIService, "", 0, true)
}
