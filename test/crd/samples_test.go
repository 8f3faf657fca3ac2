package crd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/connpool/connpool/api/v1alpha1"
)

// TestSamples checks that the samples are accepted, that their Secrets have the
// label, and that they hold no private key.
func TestSamples(t *testing.T) {
	validate := offline(t)
	for file, objects := range samples(t) {
		for _, sample := range objects {
			t.Run(file+" "+sample.GetKind()+" "+sample.GetName(), func(t *testing.T) {
				if sample.GetKind() == "Secret" {
					if sample.GetLabels()[v1alpha1.CredentialsLabel] != v1alpha1.CredentialsLabelValue {
						t.Errorf("lacks the label %s", v1alpha1.CredentialsLabel)
					}
					return
				}
				for _, cause := range validate(t, &sample) {
					t.Errorf("error at %s: %s", cause.Field, cause.Message)
				}
			})
		}
	}
}

// samples returns the objects of the sample files by file.
func samples(t *testing.T) map[string][]unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	byFile := map[string][]unstructured.Unstructured{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "PRIVATE KEY") {
			t.Errorf("%s holds what looks like a private key", file)
		}
		for document := range strings.SplitSeq(string(content), "\n---\n") {
			if !strings.Contains(document, "kind: ") { // the kustomization
				continue
			}
			sample := *parse(t, []byte(document))
			sample.SetNamespace("default")
			name := filepath.Base(file)
			byFile[name] = append(byFile[name], sample)
		}
	}
	return byFile
}
