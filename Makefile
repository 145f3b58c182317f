# The targets that people and CI call. `make help` lists them.
SHELL := /bin/bash
GO ?= go
export CGO_ENABLED ?= 0
BIN := bin/ml

# Which scenarios make e2e runs, as go test -run takes it; all of them unless it is set.
E2E_RUN ?= .

# How many scenarios run beside each other: they mostly wait for pods.
E2E_BESIDE ?= 3

# The cluster that e2e runs on: the one of make cluster, or ML_E2E_KUBECONFIG's.
E2E = env $$($(GO) run ./e2e/cluster env)

.PHONY: help build demo test race bench crash mutate fuzz lint fmt generate verify examples clean cluster cluster-down e2e e2e-full e2e-extras e2e-drivers e2e-gitops e2e-gitops-full

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## Build bin/ml (and bin/continuo, the same program)
	$(GO) build -trimpath -o $(BIN) ./cmd/ml
	ln -sf ml bin/continuo

demo: build ## Walk the quickstart from plan to retraining and back, in about a minute
	./examples/demo.sh

test: ## Run every test, with the race detector where there is a C compiler
	$(GO) test -run 'TestH18' ./config # its sizes are too much for the race detector, which skips them
	$(GO) test -run 'TestN5|TestN17' ./internal/gateway # thousands of connections: likewise
	@# With the detector every process sleeps for a second at its end, unless it is told otherwise.
	@if command -v "$${CC:-cc}" >/dev/null; then set -x; CGO_ENABLED=1 GORACE=atexit_sleep_ms=50 $(GO) test -race -timeout 30m ./...; \
	elif [ -n "$$CI" ]; then echo "no C compiler for the race detector: apt-get install gcc libc6-dev" >&2; exit 1; \
	else echo "no C compiler: without the race detector"; $(GO) test -timeout 30m ./...; fi

examples: ## Run each example from an empty folder to its destruction
	$(GO) test -tags examples -count=1 -timeout 20m ./examples/...

cluster: ## Start a real Kubernetes with KServe and Kubeflow Trainer on this machine (root; the first time builds for half an hour)
	$(GO) run ./e2e/cluster up

e2e: cluster $(if $(filter .,$(E2E_RUN)),e2e-extras) ## The scenarios on the cluster: the quickstart in pods, on KServe and Kubeflow, edits behind its back, kills, faults
	$(E2E) $(GO) test -tags e2e -count=1 -timeout 150m -parallel $(E2E_BESIDE) -run '$(E2E_RUN)' -v ./e2e/scenarios

e2e-extras: cluster ## What single scenarios and drivers need on the cluster besides: a Gateway, Knative (KServe starts anew once), Katib
	$(GO) run ./e2e/cluster gateway
	$(GO) run ./e2e/cluster knative
	$(GO) run ./e2e/cluster katib

e2e-full: ## All counts, and the conformance kit of every driver; the log goes to docs/evidence
	scripts/evidence.sh e2e env ML_E2E_KILLS=50 ML_E2E_API_KILLS=10 ML_E2E_STOPS=5 E2E_BESIDE=5 $(MAKE) --no-print-directory e2e e2e-drivers

e2e-drivers: e2e-extras ## What every driver promises, on the cluster, and datasets in real object stores
	$(E2E) $(GO) test -tags e2e -count=1 -timeout 90m -p 1 -v ./internal/kube ./providers/kubernetes ./providers/kubeflow ./providers/kserve ./e2e/sources ./e2e/state

e2e-gitops: ## The daemon and pull requests on a real Gitea, from the first push to retraining (the first time builds it)
	$(GO) test -tags e2e -count=1 -timeout 40m -v ./e2e/gitops

e2e-gitops-full: ## The same with all counts: kills at every point, floods, twenty repositories, times; the log goes to docs/evidence
	scripts/evidence.sh gitops env ML_GITOPS_FULL=1 $(GO) test -tags e2e -count=1 -timeout 90m -p 1 -v ./e2e/gitops ./daemon/...
	scripts/evidence.sh leader env ML_GITOPS_FULL=1 $(GO) test -count=1 -timeout 30m -v -run TestAFormerLeaderWritesNothing ./cmd/ml

cluster-down: ## Stop exactly what make cluster started
	$(GO) run ./e2e/cluster down

bench: build ## Measure, and write docs/benchmarks.md
	./bench/run.sh

crash: ## 1,000 kills of ml apply, with an oracle outside the state; the log goes to docs/evidence
	scripts/evidence.sh crash env ML_CRASH_KILLS=1000 $(GO) test -count=1 -timeout 60m -v ./e2e/crash

mutate: ## Break the code in every way on the list; each must turn its test red (half an hour; docs/evidence)
	scripts/evidence.sh mutate $(GO) run ./internal/mutate

fuzz: ## Fuzz every target for a minute each; the log goes to docs/evidence
	scripts/evidence.sh fuzz ./scripts/fuzz.sh 60s

lint: ## golangci-lint, at the pinned version
	./scripts/lint.sh

fmt: ## Format the code and the examples
	gofmt -w $$(git ls-files '*.go')

generate: ## Write docs/reference from the kinds
	$(GO) run ./internal/docgen

verify: ## Formatted, tidy, and generated files up to date
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod tidy -diff
	$(MAKE) generate
	@git diff --exit-code -- docs/reference || { echo "docs/reference is not up to date: commit what make generate wrote"; exit 1; }

clean: ## Remove what was built
	rm -rf bin
