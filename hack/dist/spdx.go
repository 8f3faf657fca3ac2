package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// ours is the identifier of connpool in the document.
const ours = common.ElementID("Package-connpool")

// billOfMaterials writes connpool.spdx.json: the modules that are in any of the
// programs, as Go recorded them when it built these.
func (o *options) billOfMaterials(programs []string) error {
	modules, err := modulesOf(programs)
	if err != nil {
		return err
	}
	document := o.document(modules)
	var text bytes.Buffer
	if err := json.Write(document, &text, json.Indent("  ")); err != nil {
		return err
	}
	return o.write("connpool.spdx.json", text.Bytes())
}

// modulesOf returns the versions of modules by their paths. The standard library is
// called stdlib, as in Go's database of vulnerabilities.
func modulesOf(programs []string) (map[string]string, error) {
	modules := map[string]string{}
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return nil, fmt.Errorf("read the modules of %s: %w", program, err)
		}
		modules["stdlib"] = strings.TrimPrefix(info.GoVersion, "go")
		for _, module := range info.Deps {
			if module.Replace != nil {
				module = module.Replace
			}
			modules[module.Path] = module.Version
		}
	}
	return modules, nil
}

func (o *options) document(modules map[string]string) *spdx.Document {
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: "connpool-" + o.version,
		CreationInfo: &spdx.CreationInfo{
			Created: o.created.Format(time.RFC3339),
			Creators: []common.Creator{
				{CreatorType: "Tool", Creator: "connpool-hack-dist"},
				{CreatorType: "Tool", Creator: runtime.Version()},
			},
		},
	}
	own := described(ours, "github.com/connpool/connpool", o.version)
	own.PackageLicenseDeclared, own.PrimaryPackagePurpose = "Apache-2.0", "APPLICATION"
	document.Packages = []*spdx.Package{own}
	document.Relationships = []*spdx.Relationship{related("DOCUMENT", common.TypeRelationshipDescribe, ours)}
	content := sha256.New()
	for number, path := range slices.Sorted(maps.Keys(modules)) {
		id := common.ElementID(fmt.Sprintf("Package-module-%d", number+1))
		document.Packages = append(document.Packages, described(id, path, modules[path]))
		document.Relationships = append(document.Relationships, related(ours, common.TypeRelationshipDependsOn, id))
		fmt.Fprintln(content, path, modules[path])
	}
	// A document of other content must have another name.
	document.DocumentNamespace = fmt.Sprintf("%s/spdx/%s-%x", home, o.version, content.Sum(nil)[:8])
	return document
}

func described(id common.ElementID, path, version string) *spdx.Package {
	return &spdx.Package{
		PackageSPDXIdentifier: id, PackageName: path, PackageVersion: version,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION",
		PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: "pkg:golang/" + path + "@" + version,
		}},
	}
}

func related(from common.ElementID, how string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how,
	}
}
