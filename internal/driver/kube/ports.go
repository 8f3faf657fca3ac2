package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/connpool/connpool/internal/driver"
)

// podPorts is what a port-forward has to know of a pod.
type podPorts struct {
	Spec struct {
		Containers []struct {
			Ports []struct {
				Name          string `json:"name"`
				ContainerPort uint16 `json:"containerPort"`
				Protocol      string `json:"protocol"`
			} `json:"ports"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

// PodPort implements driver.PodForwarder. Where the credentials may not read pods, only
// numbers are known, and whether the pod is there shows with the first connection.
func (c *conn) PodPort(ctx context.Context, pod driver.Place, port string) (uint16, error) {
	place, failed := completePlace(pod, c.namespace)
	if failed != nil {
		return 0, failed
	}
	if err := c.begin(ctx); err != nil {
		return 0, err
	}
	defer c.use()()
	asking, done := joinContexts(ctx, c.ctx)
	defer done()
	asking, cancel := context.WithTimeout(asking, c.client.options.StageTimeout)
	defer cancel()
	header := http.Header{"Accept": {"application/json"}}
	got, failed := c.client.get(asking, c.client.transport, podPath(place), header, maxPodBytes, driver.StageStart)
	if failed != nil {
		return 0, c.preferConnError(ctx, failed)
	}
	number, isNumber := portNumber(port)
	switch {
	case got.status == http.StatusForbidden && isNumber:
		return number, nil
	case got.status == http.StatusForbidden:
		return 0, driver.Errorf(driver.Forbidden, driver.StageStart, "%s", driver.Sanitize(
			"the name of a port is in its pod, which the cluster does not let the target's credentials read; "+
				"give the number of the port, or allow get on pods there by RBAC: "+messageOf(got)))
	case got.status != http.StatusOK:
		return 0, startError(c.client, got, place)
	}
	var read podPorts
	if err := json.Unmarshal(got.body, &read); err != nil {
		return 0, driver.Errorf(driver.ProtocolError, driver.StageStart, "the cluster does not answer with a pod")
	}
	return read.find(place, port)
}

// portNumber returns the number that a text is; none is 0.
func portNumber(text string) (uint16, bool) {
	if text == "" {
		return 0, true
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return uint16(number), err == nil
}

func (p *podPorts) find(place driver.Place, port string) (uint16, error) {
	where := "pod " + place.Pod + " in namespace " + place.Namespace
	if phase := p.Status.Phase; phase != "Running" {
		return 0, driver.Errorf(driver.Unreachable, driver.StageStart, "%s",
			driver.Sanitize(where+" has no ports now: it is "+phase+", not Running"))
	}
	number, isNumber := portNumber(port)
	if isNumber {
		return number, nil
	}
	known := ""
	for _, container := range p.Spec.Containers {
		for _, has := range container.Ports {
			switch {
			case has.Protocol != "" && has.Protocol != "TCP": // what is forwarded is TCP
			case has.Name == port:
				return has.ContainerPort, nil
			case has.Name != "":
				known += ", " + has.Name
			}
		}
	}
	if known == "" {
		known = ", none with a name; give the number of the port"
	}
	return 0, driver.Errorf(driver.NotFound, driver.StageStart, "%s",
		driver.Sanitize(where+" has no TCP port named "+port+"; its ports: "+known[2:]))
}
