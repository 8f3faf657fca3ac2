#!/usr/bin/env bash
# Runs every fuzz test for a while, one after the other.
# usage: hack/test-fuzz.sh [time]
set -euo pipefail
cd "$(dirname "$0")/.."

git grep --untracked -oE '^func Fuzz\w+' -- '*_test.go' | sed 's/:func /:/' | while IFS=: read -r file name; do
	echo "$(dirname "$file"): $name"
	go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "${1:-10s}"
done
