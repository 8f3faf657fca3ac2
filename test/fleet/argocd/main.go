// Command argocd manages a cluster as Argo CD does, with its library: a cache of all
// resources by watches, and syncs of what is desired.
//
//	argocd SECRET NAMESPACE
//
// SECRET is a file with a cluster Secret. For each line of its input, a number, it syncs
// that step to NAMESPACE, waits until its cache has it, and prints what changed. At the
// end of the input it prunes what it made.
//
// It is a module of its own, because the library needs Kubernetes' packages of 2021.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/argoproj/gitops-engine/pkg/cache"
	"github.com/argoproj/gitops-engine/pkg/engine"
	"github.com/argoproj/gitops-engine/pkg/sync"
	"github.com/argoproj/gitops-engine/pkg/utils/kube"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const stepAnnotation = "fleet.example.com/step"

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	config, err := configOf(os.Args[1])
	if err != nil {
		return err
	}
	a := &application{namespace: os.Args[2]}
	a.cache = cache.NewClusterCache(config, cache.SetLogr(logr.Discard()), cache.SetPopulateResourceInfoHandler(
		func(object *unstructured.Unstructured, _ bool) (any, bool) {
			step := object.GetAnnotations()[stepAnnotation]
			return step, step != ""
		}))
	a.engine = engine.NewEngine(config, a.cache, engine.WithLogr(logr.Discard()))
	stop, err := a.engine.Run()
	if err != nil {
		return err
	}
	defer stop()
	info := a.cache.GetClusterInfo()
	fmt.Printf("the cache has %d resources of %d APIs of Kubernetes %s\n", info.ResourcesCount, info.APIsCount, info.K8SVersion)
	for steps := bufio.NewScanner(os.Stdin); steps.Scan(); {
		if err := a.apply(ctx, steps.Text()); err != nil {
			return err
		}
	}
	return a.prune(ctx)
}

// configOf makes of a cluster Secret what Argo CD makes of it.
func configOf(file string) (*rest.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var secret corev1.Secret
	if err := yaml.Unmarshal(text, &secret); err != nil {
		return nil, err
	}
	var config struct {
		BearerToken     string `json:"bearerToken"`
		TLSClientConfig struct {
			CAData []byte `json:"caData"`
		} `json:"tlsClientConfig"`
	}
	if err := json.Unmarshal([]byte(secret.StringData["config"]), &config); err != nil {
		return nil, err
	}
	return &rest.Config{
		Host: secret.StringData["server"], BearerToken: config.BearerToken, QPS: 50, Burst: 100,
		TLSClientConfig: rest.TLSClientConfig{CAData: config.TLSClientConfig.CAData},
	}, nil
}

type application struct {
	namespace string
	cache     cache.ClusterCache
	engine    engine.GitOpsEngine
}

func managed(resource *cache.Resource) bool { step, _ := resource.Info.(string); return step != "" }

func (a *application) apply(ctx context.Context, step string) error {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"step": step},
	}}
	object.SetName("argocd")
	object.SetNamespace(a.namespace)
	object.SetAnnotations(map[string]string{stepAnnotation: step})
	if err := a.sync(ctx, step, object); err != nil {
		return err
	}
	key := kube.GetResourceKey(object)
	return a.eventually(func() bool {
		found := a.cache.FindResources(a.namespace, managed)[key]
		return found != nil && found.Info == step
	}, "the cache does not have step "+step)
}

func (a *application) sync(ctx context.Context, step string, objects ...*unstructured.Unstructured) error {
	results, err := a.engine.Sync(ctx, objects, managed, step, a.namespace, sync.WithPrune(true), sync.WithLogr(logr.Discard()))
	if err != nil {
		return err
	}
	for _, result := range results {
		fmt.Printf("step %s: %s %s: %s\n", step, result.ResourceKey.String(), result.Status, result.Message)
	}
	return nil
}

func (a *application) prune(ctx context.Context) error {
	if err := a.sync(ctx, "end"); err != nil {
		return err
	}
	return a.eventually(func() bool { return len(a.cache.FindResources(a.namespace, managed)) == 0 }, "the cache still has what was pruned")
}

func (a *application) eventually(fact func() bool, otherwise string) error {
	if err := wait.PollImmediate(50*time.Millisecond, time.Minute, func() (bool, error) { return fact(), nil }); err != nil {
		return errors.New(otherwise)
	}
	return nil
}
