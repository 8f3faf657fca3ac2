// Package gitops computes the health of objects as GitOps controllers do, for tests:
// Flux by the library kstatus or by the expressions of a Kustomization, and Argo CD by the
// Lua scripts of config/argocd.
//
//	argo, err := gitops.LoadArgoCD("../../config/argocd")
//	health, err := argo.Health(object)
//	status, err := gitops.FluxStatus(object)
//	flux, err := gitops.LoadFlux("../../config/samples/gitops/flux/fleet.yaml")
//	status, err = flux.Status(ctx, object)
package gitops

import (
	"context"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Health is what a health script returns.
type Health struct{ Status, Message string }

// ArgoCD is the configuration of an Argo CD.
type ArgoCD struct{ settings map[string]string }

// LoadArgoCD renders the kustomization of the ConfigMap argocd-cm in the directory, so
// that what is tested is what users apply.
func LoadArgoCD(directory string) (*ArgoCD, error) {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", directory, err)
	}
	text, err := rendered.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", directory, err)
	}
	var settings corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &settings); err != nil {
		return nil, fmt.Errorf("read the ConfigMap of %s: %w", directory, err)
	}
	if settings.Name != "argocd-cm" {
		return nil, fmt.Errorf("%s makes %s instead of the ConfigMap argocd-cm", directory, settings.Name)
	}
	return &ArgoCD{settings.Data}, nil
}

// IgnoredPointers returns the JSON pointers at which Argo CD sees no differences of a
// kind's objects. The kind is as in the settings' names: GROUP_KIND.
func (a *ArgoCD) IgnoredPointers(kind string) ([]string, error) {
	var ignored struct{ JSONPointers []string }
	text := a.settings["resource.customizations.ignoreDifferences."+kind]
	if err := yaml.UnmarshalStrict([]byte(text), &ignored); err != nil {
		return nil, fmt.Errorf("read the ignored differences of %s: %w", kind, err)
	}
	return ignored.JSONPointers, nil
}

// scriptTimeout is how long Argo CD lets a script run.
const scriptTimeout = time.Second

// Health runs the health script of the object's kind.
func (a *ArgoCD) Health(object *unstructured.Unstructured) (Health, error) {
	kind := object.GroupVersionKind()
	name := fmt.Sprintf("resource.customizations.health.%s_%s", kind.Group, kind.Kind)
	script, found := a.settings[name]
	if !found {
		return Health{}, fmt.Errorf("argocd-cm has no %s", name)
	}
	machine, err := newMachine()
	if err != nil {
		return Health{}, err
	}
	defer machine.Close()
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	machine.SetContext(ctx)
	machine.SetGlobal("obj", luaValue(machine, object.Object))
	if err := machine.DoString(script); err != nil {
		return Health{}, fmt.Errorf("run %s: %w", name, err)
	}
	returned, isTable := machine.Get(-1).(*lua.LTable)
	if !isTable {
		return Health{}, fmt.Errorf("%s returns no table", name)
	}
	return Health{
		Status:  lua.LVAsString(returned.RawGetString("status")),
		Message: lua.LVAsString(returned.RawGetString("message")),
	}, nil
}

// newMachine returns a machine with the libraries that Argo CD opens for scripts of
// argocd-cm. The scripts need nothing of its cut-down library os, so that is left out.
func newMachine() (*lua.LState, error) {
	machine := lua.NewState(lua.Options{SkipOpenLibs: true})
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: machine.NewFunction(library.open), Protect: true}
		if err := machine.CallByParam(call, lua.LString(library.name)); err != nil {
			machine.Close()
			return nil, fmt.Errorf("open Lua's library %q: %w", library.name, err)
		}
	}
	return machine, nil
}

// luaValue returns a value of unstructured content as Argo CD passes it to scripts.
func luaValue(machine *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		list := machine.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(luaValue(machine, item))
		}
		return list
	case map[string]any:
		table := machine.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, luaValue(machine, item))
		}
		return table
	}
	return lua.LNil
}
