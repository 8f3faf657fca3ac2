# connpool: one target for each thing to do. Start with `make help`.

# The image that docker-build makes and deploy runs.
IMG ?= connpool:dev
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# How long each fuzz test runs.
FUZZTIME ?= 10s
# The minor version of Kubernetes of test-compat; hack/controlplane-$(COMPAT) builds it.
COMPAT ?= 1.36
# More flags for go test, for example: make test-unit ARGS='-run Acquire -v'
ARGS ?=

LINT := bin/golangci-lint
LDFLAGS := -s -w -X main.set=$(VERSION)

# Debian keeps sshd outside the path of ordinary users.
export PATH := $(PATH):/usr/sbin

.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash -o errexit -o pipefail

##@ Try it: a lab on this machine, with a control plane, an SSH server and samples

.PHONY: run
run: ## Start the lab and the operator and watch pools get warm; Ctrl-C ends everything
	go run ./hack/lab run

.PHONY: lab-up
lab-up: ## Start only the lab, without the operator; kubeconfig in .lab/kubeconfig
	go run ./hack/lab up

.PHONY: lab-down
lab-down: ## Stop the lab
	go run ./hack/lab down

.PHONY: status
status: ## Show which parts of the lab run
	go run ./hack/lab status

.PHONY: lab-ssh-stop
lab-ssh-stop: ## Stop the lab's SSH server, to see pools notice
	go run ./hack/lab ssh-stop

.PHONY: lab-ssh-start
lab-ssh-start: ## Start it again, to see pools recover
	go run ./hack/lab ssh-start

.PHONY: lab-node-up
lab-node-up: test-deps ## Add a node with pods and a Docker engine to the lab, and start the lab if needed; needs root or sudo
	go run ./hack/lab node-up

.PHONY: lab-node-down
lab-node-down: ## Remove the node and the engine
	go run ./hack/lab node-down

##@ Build

.PHONY: build
build: ## Build bin/manager and bin/kubectl-connpool
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags '$(LDFLAGS)' -o bin/ ./cmd/manager ./cmd/kubectl-connpool

.PHONY: install-plugin
install-plugin: ## Install the kubectl plugin into the folder where `go install` puts programs
	CGO_ENABLED=0 go install -trimpath -buildvcs=auto -ldflags '$(LDFLAGS)' ./cmd/kubectl-connpool

.PHONY: docker-build
docker-build: ## Build the image IMG
	docker build --build-arg VERSION=$(VERSION) -t $(IMG) .

.PHONY: image
image: ## Build dist/connpool-image.tar, an OCI image named IMG, without Docker and without a registry
	go run ./hack/image -name $(IMG) -version $(VERSION)

.PHONY: dist
dist: ## Write a release to dist: image, plugin for every platform, chart, install.yaml, krew manifest, SPDX, checksums
	rm -rf dist
	go run ./hack/image -name $(IMG) -version $(VERSION)
	go run ./hack/dist -image $(IMG) -version $(VERSION)

.PHONY: clean
clean: lab-down ## Stop the lab and remove everything that was built
	rm -rf bin dist .lab

##@ Test

.PHONY: test-unit
test-unit: ## Run the tests that need no API server, with the race detector; about 2 minutes
	go test -race $(ARGS) ./api/... ./internal/...

.PHONY: test
test: test-deps lint verify lint-manifests ## Lint, verify, and run all tests but test-e2e, on a real API server, sshd and Docker engine; about 12 minutes
	@hack/say 'unit, sshd and control-plane tests, with the race detector'
	go test -race -timeout 30m $(ARGS) ./...

.PHONY: test-e2e
test-e2e: test-deps ## Test the built programs with real containers and pods, and stock docker, kubectl and helm; needs root
	@hack/say 'end to end; takes some minutes more the first time, for a kubelet and helm have to be built'
	go test -count=1 -timeout 15m -p 1 -tags e2e $(ARGS) ./test/node ./test/e2e ./test/installed
	go test -count=1 -p 1 -tags e2e -run 'Node|Containers|Libraries' ./test/lab ./test/tour ./test/fleet

.PHONY: test-compat
test-compat: test-deps ## Test with the API server and kubectl of Kubernetes COMPAT, a minor version that hack/controlplane-COMPAT builds
	@hack/say 'Kubernetes $(COMPAT); takes minutes more the first time, where it has to be built'
	CONNPOOL_TEST_KUBERNETES=$(COMPAT) go test -count=1 -timeout 30m -p 1 $(ARGS) ./test/controlplane ./test/crd ./test/chart ./test/integration

.PHONY: test-fuzz
test-fuzz: ## Run each fuzz test for FUZZTIME
	hack/test-fuzz.sh $(FUZZTIME)

##@ Check and repair (every verify-x has an update-x)

.PHONY: lint
lint: $(LINT) ## Run every linter; exceptions and their reasons are in .golangci.yml
	@hack/say 'lint'
	$(LINT) run

.PHONY: lint-fix
lint-fix: $(LINT) ## Repair what the linters can repair
	$(LINT) run --fix

.PHONY: lint-manifests
lint-manifests: control-plane ## Lint config/default and the chart with kube-score; exceptions are in hack/manifest-lint/exceptions.txt
	@hack/say 'lint the manifests'
	hack/lint-manifests.sh

.PHONY: verify
verify: verify-codegen verify-tidy verify-conventions verify-platforms ## Check generated files, modules, conventions and platforms

.PHONY: verify-codegen
verify-codegen: ## Check that generated files are up to date
	@hack/say 'generated files'
	hack/verify-codegen.sh || hack/failed 'make update-codegen'

.PHONY: update-codegen
update-codegen: ## Generate deep copies, CRDs, roles, apply configurations and the reference pages
	hack/update-codegen.sh

.PHONY: generate manifests
generate manifests: update-codegen ## The same, by the names of kubebuilder

.PHONY: verify-tidy
verify-tidy: ## Check that go.mod and go.sum of every module are tidy
	@hack/say 'modules'
	hack/each-module.sh go mod tidy -diff || hack/failed 'make update-tidy'

.PHONY: update-tidy
update-tidy: ## Tidy go.mod and go.sum of every module
	hack/each-module.sh go mod tidy

.PHONY: verify-conventions
verify-conventions: ## Check imports, sizes of packages, sources, documents, roles and manifests
	@hack/say 'conventions'
	go test ./test/conventions || hack/failed \
		'see above; if the table of packages or the golden role differs and the change is meant, make update-conventions'

.PHONY: update-conventions
update-conventions: ## Write the table of packages into the docs, and accept the manager's present role as the golden one
	go test ./test/conventions -run Update -update

.PHONY: verify-platforms
verify-platforms: ## Vet the plugin and its tests for windows and darwin; a minute each the first time
	@hack/say 'the plugin on other platforms'
	hack/vet-platforms.sh

##@ Measure

.PHONY: bench
bench: ## Measure how fast it is, each row beside its comparator
	go run ./hack/bench

.PHONY: measure
measure: ## Count sizes, references between files, repeated lines and unclear words in the code
	go run ./hack/measure

##@ Deploy to the cluster of the current kubectl context

.PHONY: install
install: ## Install the CRDs and the policies that guard them
	kubectl apply --server-side -k config/crd
	kubectl apply --server-side -k config/admission

.PHONY: uninstall
uninstall: ## Remove the policies and the CRDs, and with them every pool and target
	kubectl delete --ignore-not-found -k config/admission
	kubectl delete --ignore-not-found -k config/crd

.PHONY: deploy
deploy: ## Deploy the operator with the image IMG
	kubectl kustomize config/default | sed 's|image: connpool:dev|image: $(IMG)|' | kubectl apply --server-side -f -

.PHONY: undeploy
undeploy: ## Remove everything that deploy made
	@# First: while it is registered and has no server, no namespace can be deleted.
	kubectl delete --ignore-not-found apiservice v1alpha1.live.connpool.dev
	kubectl delete --ignore-not-found -k config/default

##@ Help and tools that the others use

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## "; print "usage: make <target>" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9 -]+:.*## / { printf "  %-19s%s\n", $$1, $$2 }' Makefile

.PHONY: test-deps
test-deps: ## Install the Debian packages that tests need, where they are missing
	hack/install-test-deps.sh

.PHONY: control-plane
control-plane: ## Get kube-apiserver, etcd and kubectl into bin/k8s; builds them when they cannot be downloaded
	@hack/say 'control plane; takes minutes the first time, where it has to be built'
	go run ./hack/lab build

$(LINT): $(wildcard hack/lint/*)
	@hack/say 'build golangci-lint; takes a minute or two the first time'
	cd hack/lint && go build -trimpath -buildvcs=auto -ldflags '-s -w' -o ../../$@ .
