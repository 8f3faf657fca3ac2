#!/usr/bin/env bash
# Checks that what hack/update-codegen.sh generates is up to date: it generates
# in a copy, so that the working tree stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
# A file that is deleted but not yet committed is listed and missing.
git ls-files -z --cached --others --exclude-standard -- \
	go.mod go.sum api charts client config docs/reference hack internal test/gitops |
	tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -xf - -C "$copy"
"$copy/hack/update-codegen.sh"

stale=0
for path in api charts client/applyconfiguration config/crd config/rbac docs/reference internal/apiserver/openapi; do
	diff --recursive --unified --new-file "$path" "$copy/$path" || stale=1
done
if [ "$stale" -ne 0 ]; then
	printf '\ngenerated files are out of date; to repair: hack/update-codegen.sh\n' >&2
	exit 1
fi
