#!/usr/bin/env bash
# Lints the manifests as users apply them, with kube-score. Findings that are meant are in
# hack/manifest-lint/exceptions.txt, each with its reason. It is
# about good practice: whether a server accepts the manifests is tried in test/chart, by a
# strict dry run on a real kube-apiserver, which knows more than published schemas do.
set -euo pipefail
cd "$(dirname "$0")/.."

exceptions=$(grep -vE '^(#|$)' hack/manifest-lint/exceptions.txt)
chart() {
	bin/k8s/helm template connpool charts/connpool --namespace connpool-system "$@"
}
score() {
	go tool -modfile=hack/manifest-lint/go.mod kube-score score --all-default-optional --kubernetes-version v1.30 --output-format ci - || true
}

go run ./hack/lab build-helm
findings=
for manifests in "bin/k8s/kubectl kustomize config/default" "chart" "chart --set=certManager.enabled=true" \
	"chart --set=watchNamespaces={team-a}"; do
	said=$($manifests | score)
	# It says OK of what it has checked, and nothing at all of what it cannot read.
	grep -q '^\[OK\]' <<<"$said" || { echo "$manifests: $said" >&2; exit 1; }
	findings+=$(grep -E '^\[(CRITICAL|WARNING)\]' <<<"$said")$'\n'
done

failed=0
if unexplained=$(grep -v '^$' <<<"$findings" | grep -vFf <(echo "$exceptions") | sort -u); then
	echo "$unexplained"
	failed=1
fi
while read -r exception; do
	if ! grep -qF -- "$exception" <<<"$findings"; then
		echo "hack/manifest-lint/exceptions.txt: nothing is found any more that says: $exception"
		failed=1
	fi
done <<<"$exceptions"
exit "$failed"
