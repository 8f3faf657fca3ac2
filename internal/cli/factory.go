package cli

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	connpoolv1alpha1 "github.com/connpool/connpool/api/v1alpha1"
)

// factory gives commands what they share. Clients are made when first asked for.
type factory struct {
	genericiooptions.IOStreams

	// name that usages print: "kubectl connpool" or "connpool".
	name string
	// version of this binary.
	version string
	config  clusterFlags
}

func newFactory(name, version string, streams genericiooptions.IOStreams) *factory {
	return &factory{
		IOStreams: streams,
		name:      name,
		version:   version,
	}
}

// namespace that the flags or the kubeconfig name.
func (f *factory) namespace() (string, error) {
	namespace, _, err := f.config.loader().Namespace()

	return namespace, err
}

// restConfig says where the cluster is and who we are.
func (f *factory) restConfig() (*rest.Config, error) {
	config, err := f.config.loader().ClientConfig()
	if err != nil {
		return nil, noCluster(err)
	}
	config.UserAgent = "kubectl-connpool/" + f.version

	return config, nil
}

// objects is a client of the declarative API: pools and targets.
func (f *factory) objects() (*rest.RESTClient, error) {
	config, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := connpoolv1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config.GroupVersion = &connpoolv1alpha1.GroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()

	return rest.RESTClientFor(config)
}
