// Package chart_test renders charts/connpool with the real helm and compares what comes
// out with what config/ renders.
package chart_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

const (
	chartFolder = "../../charts/connpool"
	space       = "connpool-system"
	release     = "connpool"
)

// helm runs the real helm and returns what it prints. An error has its words.
func helm(ctx context.Context, t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	programs, err := binaries.EnsureHelm(ctx, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, filepath.Join(programs, "helm"), arguments...)
	var out, words bytes.Buffer
	command.Stdout, command.Stderr = &out, &words
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("helm %s: %w: %s", arguments[0], err, words.String())
	}
	return out.String(), nil
}

// render returns the objects of the chart, by kind, namespace and name.
func render(t *testing.T, arguments ...string) objects {
	t.Helper()
	all := append([]string{"template", release, chartFolder, "--namespace", space}, arguments...)
	text, err := helm(t.Context(), t, all...)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text)
}

// kustomize returns the objects of a kustomization.
func kustomize(t *testing.T, folder string) objects {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := rendered.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))
}

type objects map[string]*unstructured.Unstructured

func parse(t *testing.T, text string) objects {
	t.Helper()
	all := objects{}
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		content := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &content); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		if len(content) == 0 {
			continue
		}
		object := &unstructured.Unstructured{Object: content}
		key := strings.Join([]string{object.GetKind(), object.GetNamespace(), object.GetName()}, " ")
		if all[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		all[key] = object
	}
	return all
}
