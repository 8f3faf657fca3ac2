#!/usr/bin/env bash
# Vets the plugin and the Go client with their tests for the platforms that no test
# runs on. On Windows it leaves out tests that start OpenSSH servers: these need
# signals and groups of processes.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(./cmd/kubectl-connpool ./internal/cli/... ./client/...)
CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go vet "${packages[@]}"
CGO_ENABLED=0 GOOS=windows GOARCH=amd64 go build "${packages[@]}"

tests='{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}'
go list -f "$tests" "${packages[@]}" | grep -vE 'connpool/test/(openssh|sshserver)( |$)' | cut -d' ' -f1 |
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 xargs go vet
