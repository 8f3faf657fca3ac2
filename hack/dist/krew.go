package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// krewPlugin is the manifest that krew installs a plugin from.
// See https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest.
type krewPlugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       krewSpec          `json:"spec"`
}

type krewSpec struct {
	Version          string         `json:"version"`
	Homepage         string         `json:"homepage"`
	ShortDescription string         `json:"shortDescription"`
	Description      string         `json:"description"`
	Platforms        []krewPlatform `json:"platforms"`
}

type krewPlatform struct {
	Selector krewSelector `json:"selector"`
	URI      string       `json:"uri"`
	SHA256   string       `json:"sha256"`
	Bin      string       `json:"bin"`
}

type krewSelector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

// krew writes connpool.yaml: krew wants the file to be called as the plugin.
func (o *options) krew() error {
	manifest := krewPlugin{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: map[string]string{"name": "connpool"},
		Spec: krewSpec{
			Version: "v" + o.semantic(), Homepage: home,
			ShortDescription: "Run commands through pools of warm connections",
			Description: "Runs commands on SSH hosts, in containers and in pods of other clusters, through pools of\n" +
				"warm connections that the operator connpool keeps. Copies files, forwards ports, and shows\n" +
				"who uses which connection. It needs the operator in the cluster.\n",
		},
	}
	for _, p := range platforms {
		content, err := os.ReadFile(filepath.Join(o.output, p.archive()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		manifest.Spec.Platforms = append(manifest.Spec.Platforms, krewPlatform{
			Selector: krewSelector{MatchLabels: map[string]string{"os": p.os, "arch": p.arch}},
			URI:      o.url + "/" + o.version + "/" + p.archive(), SHA256: hex.EncodeToString(sum[:]), Bin: p.program(),
		})
	}
	text, err := yaml.Marshal(manifest)
	if err != nil {
		return err
	}
	return o.write("connpool.yaml", text)
}
