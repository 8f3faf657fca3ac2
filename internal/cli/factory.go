package cli

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
)

// factory gives commands what they share. Clients are made when first asked for.
type factory struct {
	genericiooptions.IOStreams

	// name that usages print: "kubectl connpool" or "connpool".
	name string
	// version of this binary.
	version string
	// now is the time that ages are told by.
	now    func() time.Time
	config clusterFlags
}

func newFactory(name, version string, streams genericiooptions.IOStreams) *factory {
	return &factory{IOStreams: streams, name: name, version: version, now: time.Now}
}

// namespace that the flags or the kubeconfig name.
func (f *factory) namespace() (string, error) {
	namespace, _, err := f.config.loader().Namespace()
	if err != nil {
		return "", noCluster(err)
	}
	return namespace, nil
}

// restConfig says where the cluster is and who we are.
func (f *factory) restConfig() (*rest.Config, error) {
	config, err := f.config.loader().ClientConfig()
	if err != nil {
		return nil, noCluster(err)
	}
	config.UserAgent = "kubectl-connpool/" + f.version
	// A person waits for these few requests; there is nobody to be protected.
	config.QPS = -1
	return config, nil
}

// objects is a client of the declarative API: pools and targets.
func (f *factory) objects() (objectClient, error) {
	config, err := f.restConfig()
	if err != nil {
		return objectClient{}, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return objectClient{}, fmt.Errorf("describe the API: %w", err)
	}
	config.GroupVersion = &v1alpha1.GroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return objectClient{}, noCluster(err)
	}
	return objectClient{rest: client}, nil
}
