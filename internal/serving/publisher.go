package serving

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"
)

const (
	// portName is the name of the Service's port and of the endpoint's.
	portName = "https"
	// managedBy is the label by which Kubernetes' own controllers leave the
	// EndpointSlice alone.
	managedBy = "connpool.dev"
)

// Endpoint is where this replica serves, and for which Service.
type Endpoint struct {
	Namespace string
	// Service must have no selector, and a port called https.
	Service string
	// Address is the pod's IP. Kubernetes refuses loopback and link-local ones.
	Address string
	Port    int32
}

// Publisher points the Service at this replica while it leads. The leader is the
// replica that holds the connections.
type Publisher struct {
	want   *discoveryv1.EndpointSlice
	slices discoveryclient.EndpointSliceInterface
}

// NewPublisher makes a publisher; its EndpointSlice has the Service's name,
// followed by -leader.
func NewPublisher(config *rest.Config, endpoint Endpoint) (*Publisher, error) {
	want, err := endpoint.slice()
	if err != nil {
		return nil, err
	}
	client, err := discoveryclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for EndpointSlices: %w", err)
	}
	return &Publisher{want: want, slices: client.EndpointSlices(endpoint.Namespace)}, nil
}

func (e Endpoint) slice() (*discoveryv1.EndpointSlice, error) {
	address, err := netip.ParseAddr(e.Address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the pod's address: %w", err)
	case address.IsLoopback() || address.IsLinkLocalUnicast() || address.IsUnspecified():
		return nil, fmt.Errorf("the pod's address %s cannot be an endpoint of a Service", address)
	case e.Namespace == "" || e.Service == "" || e.Port <= 0:
		return nil, errors.New("namespace, Service and port of the live API are required")
	}
	family := discoveryv1.AddressTypeIPv4
	if address.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace,
			Name:      e.Service + "-leader",
			Labels:    map[string]string{discoveryv1.LabelServiceName: e.Service, discoveryv1.LabelManagedBy: managedBy},
		},
		AddressType: family,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: new(portName), Port: new(e.Port), Protocol: new(corev1.ProtocolTCP)}},
	}, nil
}

// Start implements manager.Runnable. It keeps the EndpointSlice pointing here until
// ctx ends, and then deletes it, unless another replica has taken it over.
func (p *Publisher) Start(ctx context.Context) error {
	repeat(ctx, "point the Service at this replica", p.publish)
	return bounded(context.WithoutCancel(ctx), p.withdraw)
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: only the leader
// publishes itself.
func (p *Publisher) NeedLeaderElection() bool { return true }

func (p *Publisher) publish(ctx context.Context) error {
	found, err := p.slices.Get(ctx, p.want.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = p.slices.Create(ctx, p.want, metav1.CreateOptions{})
	case err != nil:
	case p.isOurs(found):
		return nil
	case found.AddressType != p.want.AddressType: // which cannot be changed
		if err = p.remove(ctx, found); err == nil {
			_, err = p.slices.Create(ctx, p.want, metav1.CreateOptions{})
		}
	default:
		changed := p.want.DeepCopy()
		changed.ResourceVersion = found.ResourceVersion
		_, err = p.slices.Update(ctx, changed, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write EndpointSlice %s: %w", p.want.Name, err)
	}
	return nil
}

// isOurs reports whether the EndpointSlice is as this replica wants it.
func (p *Publisher) isOurs(found *discoveryv1.EndpointSlice) bool {
	return found.AddressType == p.want.AddressType &&
		equality.Semantic.DeepEqual(found.Labels, p.want.Labels) &&
		equality.Semantic.DeepEqual(found.Endpoints, p.want.Endpoints) &&
		equality.Semantic.DeepEqual(found.Ports, p.want.Ports)
}

// withdraw deletes the EndpointSlice if it still points at this replica.
func (p *Publisher) withdraw(ctx context.Context) error {
	found, err := p.slices.Get(ctx, p.want.Name, metav1.GetOptions{})
	if err == nil && p.isOurs(found) {
		err = p.remove(ctx, found)
	}
	if err != nil && !isOvertaken(err) {
		return fmt.Errorf("withdraw EndpointSlice %s: %w", p.want.Name, err)
	}
	return nil
}

// remove deletes the EndpointSlice that was found, but not one that has replaced or
// changed it since.
func (p *Publisher) remove(ctx context.Context, found *discoveryv1.EndpointSlice) error {
	return p.slices.Delete(ctx, found.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &found.UID, ResourceVersion: &found.ResourceVersion},
	})
}
