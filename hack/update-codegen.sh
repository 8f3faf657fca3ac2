#!/usr/bin/env bash
# Generates what follows from the Go sources: deep copies, CRDs, apply
# configurations, the OpenAPI description of the live API, the manager's role, the
# references, and what the chart has in common with config. The generators are pinned in hack/tools/go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."

tool() {
	go tool -modfile=hack/tools/go.mod "$@"
}

# prune removes what was generated before this run: files of types that are gone.
prune() {
	find "$1" -type f ! -newer "$started" -delete
}

started=$(mktemp)
trap 'rm -f "$started"' EXIT

tool controller-gen object paths=./api/...
tool controller-gen crd paths=./api/v1alpha1 output:crd:dir=config/crd/bases
prune config/crd/bases
tool controller-gen applyconfiguration paths=./api/v1alpha1
prune client/applyconfiguration
tool controller-gen rbac:roleName=manager-role,headerFile=hack/manager-role.txt paths=./internal/controller/... paths=./internal/apiserver output:rbac:dir=config/rbac
tool openapi-gen --go-header-file=/dev/null --report-filename=/dev/null \
	--output-dir=internal/apiserver/openapi --output-pkg=github.com/connpool/connpool/internal/apiserver/openapi \
	--output-file=zz_generated.openapi.go --output-model-name-file=zz_generated.model_name.go \
	--readonly-pkg=k8s.io/apimachinery/pkg/apis/meta/v1 --readonly-pkg=k8s.io/apimachinery/pkg/runtime \
	--readonly-pkg=k8s.io/apimachinery/pkg/version \
	./api/live/v1alpha1 k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/version
# reference describes the types of a folder in a page.
reference() {
	tool crd-ref-docs --log-level=ERROR --renderer=markdown --config=hack/api-reference/config.yaml \
		--templates-dir=hack/api-reference --source-path="$1" --output-path="docs/reference/$2"
}
reference api/v1alpha1 api.md
reference api/live/v1alpha1 live-api-types.md
go run ./hack/cli-reference >docs/reference/kubectl-connpool.md
places=internal/controller/connectiontarget
go test "./$places" -run TestEveryReasonIsShownWherePeopleLook -update >&2
go run ./hack/conditions api/v1alpha1/conditions.go "$places/testdata/places.md" >docs/reference/conditions.md

# The chart has the same CRDs, rights, policies, rules and dashboards as config. Its
# templates read them from here.
chart=charts/connpool/files
rm -rf "$chart"
mkdir -p "$chart"/{crds,rbac,admission,dashboards}
cp config/crd/bases/*.yaml "$chart/crds"
cp config/rbac/{role,leader_election_role,metrics_reader_role,view_role,edit_role,admin_role}.yaml "$chart/rbac"
cp config/admission/health_command_{policy,binding}.yaml "$chart/admission"
if [ -f config/prometheus/rules.yaml ]; then cp config/prometheus/rules.yaml "$chart"; fi
if [ -d config/grafana ]; then find config/grafana -name "*.json" -exec cp {} "$chart/dashboards" \;; fi
go run ./hack/chart-values charts/connpool/values.yaml charts/connpool/values.schema.json docs/reference/chart-values.md
