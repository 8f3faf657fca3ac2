// Command flux manages a cluster as Flux does, with its library: server-side apply, and
// the wait for what was applied.
//
//	flux SECRET NAMESPACE
//
// SECRET is a file with the Secret of a kubeconfig, as spec.kubeConfig names it. For each
// line of its input, a number, it applies that step to NAMESPACE and prints what changed.
// At the end of the input it deletes what it made.
//
// It is a module of its own, so that the operator does not depend on Flux.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/utils"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"
)

// desired is the state of a step. The API server itself makes a CustomResourceDefinition
// ready, so there is something to wait for in a cluster without controllers.
const desired = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.fleet.example.com}
spec:
  group: fleet.example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: flux, namespace: NAMESPACE}
data: {step: "STEP"}
---
apiVersion: fleet.example.com/v1
kind: Widget
metadata: {name: flux, namespace: NAMESPACE}
spec: {step: STEP}
`

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
	manager, err := newManager(config)
	if err != nil {
		return err
	}
	var objects []*unstructured.Unstructured
	for steps := bufio.NewScanner(os.Stdin); steps.Scan(); {
		if objects, err = apply(ctx, manager, os.Args[2], steps.Text()); err != nil {
			return err
		}
	}
	deleted, err := manager.DeleteAll(ctx, objects, ssa.DeleteOptions{PropagationPolicy: "Background"})
	if err != nil {
		return err
	}
	if err := manager.WaitForTermination(objects, ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: time.Minute}); err != nil {
		return err
	}
	fmt.Printf("end: %v\n", deleted.ToGroupedMap())
	return nil
}

// configOf keeps of the kubeconfig what Flux keeps of it: no plugins, no files.
func configOf(file string) (*rest.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var secret corev1.Secret
	if err := yaml.Unmarshal(text, &secret); err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(secret.StringData["value"]))
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host: config.Host, APIPath: config.APIPath, BearerToken: config.BearerToken, Timeout: 30 * time.Second,
		TLSClientConfig: rest.TLSClientConfig{CAData: config.CAData, ServerName: config.ServerName},
	}, nil
}

func newManager(config *rest.Config) (*ssa.ResourceManager, error) {
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, http)
	if err != nil {
		return nil, err
	}
	kube, err := client.New(config, client.Options{HTTPClient: http, Mapper: mapper})
	if err != nil {
		return nil, err
	}
	poller := polling.NewStatusPoller(kube, mapper, polling.Options{})
	return ssa.NewResourceManager(kube, poller, ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}), nil
}

// apply applies the state of a step, waits for it, and applies it again, which must change
// nothing.
func apply(ctx context.Context, manager *ssa.ResourceManager, namespace, step string) ([]*unstructured.Unstructured, error) {
	text := strings.NewReplacer("NAMESPACE", namespace, "STEP", step).Replace(desired)
	objects, err := utils.ReadObjects(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	first, err := manager.ApplyAllStaged(ctx, objects, ssa.DefaultApplyOptions())
	if err != nil {
		return nil, err
	}
	wait := ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: time.Minute}
	if err := manager.WaitForSet(first.ToObjMetadataSet(), wait); err != nil {
		return nil, err
	}
	again, err := manager.ApplyAll(ctx, objects, ssa.DefaultApplyOptions())
	if err != nil {
		return nil, err
	}
	fmt.Printf("step %s: %v, then %v\n", step, first.ToGroupedMap(), again.ToGroupedMap())
	return objects, nil
}
