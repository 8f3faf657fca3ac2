#!/usr/bin/env bash
# Draws a dashboard of config/grafana with the data of a Prometheus, as docs/images/dashboard.png shows it:
#   hack/recording/dashboard.sh http://127.0.0.1:9090 fleet 10
# These are Prometheus, the dashboard, and how many minutes. It needs npm and /usr/bin/chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."

programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$programs" playwright-core@1.65.1 uplot@1.6.32
cp hack/recording/dashboard.mjs "$programs"
node "$programs/dashboard.mjs" "$1" "config/grafana/$2.json" "$3" docs/images/dashboard.png
