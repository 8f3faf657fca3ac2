#!/usr/bin/env bash
# Runs a command in the folder of every Go module of this repository, and fails
# at the end if it failed in any.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
while read -r file; do
	echo "$(dirname "$file"): $*"
	(cd "$(dirname "$file")" && "$@") || failed=1
done < <(git ls-files --cached --others --exclude-standard '*go.mod')
exit "$failed"
