#!/usr/bin/env bash
# Records docs/images/tour.svg from a lab that runs (make run). It needs asciinema and npx.
set -euo pipefail
cd "$(dirname "$0")/../.."

cast=$(mktemp)
trap 'rm -f "$cast"' EXIT
export KUBECONFIG=${KUBECONFIG:-$PWD/.lab/kubeconfig} PATH=$PWD/bin:$PWD/bin/k8s:$PATH
asciinema rec --quiet --overwrite --cols 108 --rows 26 --command hack/recording/tour.sh "$cast"
# The picture's server is a user and a port of any machine.
sed -i "s/$(id -un)@127/dev@127/g" "$cast"
npx --yes svg-term-cli@2.1.1 --in "$cast" --out docs/images/tour.svg --window --no-cursor --width 108 --height 26
