package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/validate/content"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
)

// List implements inventory.Lister.
func (c *conn) List(ctx context.Context, query inventory.Query) (*inventory.Places, error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	defer c.use()()
	asking, done := joinContexts(ctx, c.ctx)
	defer done()
	query.Namespace = cmp.Or(query.Namespace, c.namespace)
	if problems := content.IsPathSegmentName(query.Namespace); len(problems) > 0 {
		return nil, driver.Errorf(driver.NotFound, driver.StageRun,
			"no namespace can be called %q; correct the name", driver.Sanitize(query.Namespace))
	}
	found, err := c.client.pods(asking, &query)
	if err != nil {
		return nil, c.preferConnError(ctx, err)
	}
	found.Sort()
	return found, nil
}

// pod is a pod as the server describes it, as far as it is of use: a hostile cluster
// chooses how much there is.
type pod struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		CreationTimestamp time.Time         `json:"creationTimestamp"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		NodeName            string      `json:"nodeName"`
		Containers          []named     `json:"containers"`
		InitContainers      []initNamed `json:"initContainers"`
		EphemeralContainers []named     `json:"ephemeralContainers"`
	} `json:"spec"`
	Status struct {
		Phase             string `json:"phase"`
		ContainerStatuses []struct {
			Ready bool `json:"ready"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

type named struct {
	Name string `json:"name"`
}

type initNamed struct {
	Name          string `json:"name"`
	RestartPolicy string `json:"restartPolicy"`
}

// containers returns the names of those in which commands can run while the pod does:
// its own, then sidecars, which are init containers that stay, and those for debugging.
func (p *pod) containers() (names []string) {
	for _, container := range p.Spec.Containers {
		names = append(names, container.Name)
	}
	for _, container := range p.Spec.InitContainers {
		if container.RestartPolicy == "Always" {
			names = append(names, container.Name)
		}
	}
	for _, container := range p.Spec.EphemeralContainers {
		names = append(names, container.Name)
	}
	return names
}

// knownPod is what is kept of a pod that was looked up.
type knownPod struct {
	containers *inventory.Places
	// preferred is the container that the pod's annotation names; empty if none.
	preferred string
}

func (p *pod) known() *knownPod {
	there, query := new(inventory.Places), &inventory.Query{Limit: inventory.MaxContainers}
	for _, name := range p.containers() {
		if !there.Add(query, inventory.Container{Name: name}) {
			break
		}
	}
	return &knownPod{containers: there, preferred: strings.Clone(p.Metadata.Annotations[defaultContainerAnnotation])}
}

func (p *pod) found() inventory.Pod {
	found := inventory.Pod{
		Namespace: p.Metadata.Namespace, Name: p.Metadata.Name, Phase: p.Status.Phase, Node: p.Spec.NodeName,
		Containers: p.containers(), Total: len(p.Spec.Containers), Created: p.Metadata.CreationTimestamp,
	}
	if p.Metadata.DeletionTimestamp != "" {
		found.Phase = "Terminating"
	}
	for _, status := range p.Status.ContainerStatuses {
		if status.Ready {
			found.Ready++
		}
	}
	return found
}

// pods reads the server's list, entry by entry.
func (c *client) pods(ctx context.Context, query *inventory.Query) (*inventory.Places, *driver.Error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.StageTimeout)
	defer cancel()
	address, err := c.config.url(podsPath(query), podsQuery(query).Encode())
	if err != nil {
		return nil, driver.Errorf(driver.ProtocolError, driver.StageRun,
			"the list of pods cannot be requested; check the kubeconfig's server")
	}
	header := http.Header{"User-Agent": {userAgent}, "Accept": {"application/json"}}
	c.config.authenticate(header)
	response, err := c.transport.RoundTrip((&http.Request{Method: http.MethodGet, URL: address, Header: header}).WithContext(ctx))
	if err != nil {
		return nil, c.unanswered(err, driver.StageRun)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, c.noList(response)
	}
	found := new(inventory.Places)
	err = inventory.Read(response.Body, "items", func(p *pod) bool { return found.AddPod(query, p.found()) })
	if err != nil {
		return nil, c.badList(ctx, err)
	}
	return found, nil
}

func podsPath(query *inventory.Query) string {
	if query.AllNamespaces {
		return "/api/v1/pods"
	}
	return "/api/v1/namespaces/" + url.PathEscape(query.Namespace) + "/pods"
}

func podsQuery(query *inventory.Query) url.Values {
	values := url.Values{}
	if query.Limit > 0 { // one more says whether there are more
		values.Set("limit", strconv.Itoa(query.Limit+1))
	}
	if query.Selector != "" {
		values.Set("labelSelector", query.Selector)
	}
	if !query.All {
		values.Set("fieldSelector", "status.phase=Running")
	}
	return values
}

func (c *client) noList(response *http.Response) *driver.Error {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return c.unanswered(err, driver.StageRun)
	}
	got := &answer{status: response.StatusCode, header: response.Header, body: body}
	switch got.status {
	case http.StatusUnauthorized:
		c.monitor.Suspect()
	case http.StatusForbidden:
		return driver.Errorf(driver.Forbidden, driver.StageRun, "%s", driver.Sanitize(
			"the cluster forbids it; allow it there by RBAC (list on pods): "+messageOf(got)))
	}
	if refused := c.config.answerError(got, driver.StageRun); refused != nil {
		return refused
	}
	return driver.Errorf(driver.ProtocolError, driver.StageRun, "%s does not list pods (status %d); check the kubeconfig's server",
		c.config.address, got.status)
}

// badList classifies why a list that had begun could not be read.
func (c *client) badList(ctx context.Context, err error) *driver.Error {
	_, isSyntax := errors.AsType[*json.SyntaxError](err)
	_, isType := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case errors.Is(err, inventory.ErrTooLong), isSyntax, isType:
		return driver.Errorf(driver.ProtocolError, driver.StageRun, "%s does not list pods as an API server does (%s); "+
			"check the kubeconfig's server", c.config.address, driver.Sanitize(err.Error())).Because(err)
	case ctx.Err() != nil:
		return driver.Errorf(driver.Timeout, driver.StageRun,
			"%s did not list its pods in time; check that it is not overloaded", c.config.address).Because(err)
	}
	return c.unanswered(err, driver.StageRun)
}

// offerTimeout bounds how long an error waits for what to offer in place of a pod.
const offerTimeout = 2 * time.Second

// offer says in an error about a pod or container that does not exist which ones there
// are. found is the pod, if it was looked up.
func (c *conn) offer(ctx context.Context, err *driver.Error, refused *answer, place driver.Place, found *knownPod) *driver.Error {
	switch {
	case err.Reason != driver.NotFound:
		return err
	case refused.status == http.StatusNotFound:
		err.Message += c.offerPods(ctx, place)
	case found != nil && isAboutContainer(refused):
		subject := "pod " + place.Pod + " in namespace " + place.Namespace
		err.Message = driver.Sanitize(subject+" has no container "+place.Container) + "; it has " + found.containers.Offer(place.Container)
		if place.Container == "" {
			err.Message = driver.Sanitize(subject+" has several containers") + "; name one: " + found.containers.Offer("")
		}
	}
	return err
}

// offerPods returns what to say about the pods that run where one does not exist.
func (c *conn) offerPods(ctx context.Context, place driver.Place) string {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	query := inventory.ToOffer(place.Namespace)
	found, err := c.client.pods(ctx, &query)
	switch {
	case err != nil:
		return "; correct the name"
	case len(found.Pods) == 0:
		return "; no pod runs there, or there is no such namespace"
	}
	return "; running: " + found.Offer(place.Pod)
}
