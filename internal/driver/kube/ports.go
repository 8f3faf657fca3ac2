package kube

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/inventory"
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
	var err error
	if inventory.Decode(got.body, func(read *podPorts) { number, err = read.find(place, port) }) != nil {
		return 0, driver.Errorf(driver.ProtocolError, driver.StageStart, "the cluster does not answer with a pod")
	}
	return number, err
}

// portNumber returns the number that a text is; none is 0.
func portNumber(text string) (uint16, bool) {
	if text == "" {
		return 0, true
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return uint16(number), err == nil
}

// maxPorts bounds the ports that an error offers.
const maxPorts = 8

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
	var known []string
	for _, container := range p.Spec.Containers {
		for _, has := range container.Ports {
			switch {
			case has.Protocol != "" && has.Protocol != "TCP": // what is forwarded is TCP
			case has.Name == port:
				return has.ContainerPort, nil
			case has.Name != "" && len(known) < maxPorts:
				known = append(known, has.Name)
			}
		}
	}
	if len(known) == 0 {
		known = []string{"none with a name; give the number of the port"}
	}
	return 0, driver.Errorf(driver.NotFound, driver.StageStart, "%s",
		driver.Sanitize(where+" has no TCP port named "+port+"; its ports: "+strings.Join(known, ", ")))
}
