package chart_test

import (
	"os"
	"path/filepath"
	"testing"
)

// withCertManager writes a kustomization as a user would who takes certificates from
// cert-manager, and returns its folder. It is in this folder, because kustomize wants
// relative paths.
func withCertManager(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp(".", "testdata-overlay-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	text := "resources: [../../../config/default]\ncomponents: [../../../config/cert-manager]\n"
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}
