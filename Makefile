# Holdfast. "make help" lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)"
TOOL := $(GO) tool -modfile=tools/go.mod

# Packages without real processes; integration has targets of its own.
UNIT = $$($(GO) list ./... | grep -v '/integration')
# Packages whose tests regenerate documents when given -rewrite.
DOCUMENTED = $$(grep -rl --include='*_test.go' --exclude-dir=node_modules 'flag.Bool("rewrite"' . | xargs -n1 dirname | sort -u)

FUZZTIME ?= 10s
FULLFUZZ ?= 5m
DURATION ?= 10m
REF ?= HEAD
OFFSET ?= 0
BENCH ?= .
BENCHCOUNT ?= 6

##@ Run

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build: ## bin/holdfast, the static release binary
	$(BUILD) -o bin/holdfast ./cmd/holdfast

build-faults: ## bin/holdfast-faults, with hooks for fault tests
	$(BUILD) -tags faults -o bin/holdfast-faults ./cmd/holdfast

up: build ## three nodes on this machine (OFFSET= moves their ports)
	@OFFSET=$(OFFSET) deploy/local.sh up

down: ## stop the three nodes; their data stays in run/
	@deploy/local.sh down

status: ## how the three nodes are
	@deploy/local.sh status

docker: ## the container image, built from source
	docker build --target release --build-arg VERSION=$(VERSION) -t holdfast:$(VERSION) .

docker-packed: build ## the container image from bin/holdfast, without any base image
	docker build --target packed -t holdfast:$(VERSION) .

##@ Test

test: deps ## everything; installs what the tests need
	$(GO) vet ./...
	$(GO) vet -tags faults ./...
	$(GO) test -race -short -timeout 20m $(UNIT)
	$(GO) test -short -run NewAddress ./cluster # skipped above: raft has a race there
	$(MAKE) --no-print-directory fuzz FUZZTIME=3000x # no time: now and then the fuzzer fails just because it is over
	$(GO) test -count=1 -p 1 -timeout 40m ./integration/... # one package at a time: they measure

test-full: deps ## everything in its long form, for a night (FULLFUZZ= for each target, 5m)
	$(GO) test -race -timeout 60m $(UNIT)
	$(MAKE) --no-print-directory fuzz FUZZTIME=$(FULLFUZZ)
	HOLDFAST_FULL=1 $(GO) test -count=1 -timeout 4h -v ./integration/...

deps: ## install what the tests need (Debian packages, Node modules)
	@deploy/test-deps.sh

check: fmt-check vet lint arch unit docs-check tidy-check ## what a commit must pass, in two minutes

unit: ## tests without real processes, short forms
	$(GO) test -short $(UNIT)

race: ## the same under the race detector
	$(GO) test -race -short -timeout 20m $(UNIT)

cover: ## statement coverage of the unit tests, in cover.html
	$(GO) test -short -coverprofile=cover.out -coverpkg=./... $(UNIT)
	$(GO) tool cover -func=cover.out | tail -1
	$(GO) tool cover -html=cover.out -o cover.html

fuzz: ## every fuzz target for FUZZTIME= (10s)
	@for dir in $$(grep -rl --include='*_test.go' --exclude-dir=node_modules '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -d' ' -f2); do \
			echo "== $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$dir; \
		done; \
	done

integration: deps ## real processes, real clients, faults
	$(GO) test -count=1 -timeout 30m -v ./integration/

linear: ## linearizability under kills, suspensions and partitions
	$(GO) test -count=1 -timeout 30m -v -run Linearizable ./integration/

compat: deps ## comparison with the real Redis
	$(GO) test -count=1 -timeout 30m -v -run 'Real|Script|Trace' ./integration/

chaos: deps ## failovers, suspensions and linearizability, over and over for DURATION= (10m)
	@end=$$(( $$(date +%s) + $$(deploy/seconds.sh $(DURATION)) )); \
	while [ $$(date +%s) -lt $$end ]; do \
		HOLDFAST_FULL=1 $(GO) test -count=1 -timeout 60m -v -run 'Killed|Suspen|Linearizable|Quorum' ./integration/; \
	done

##@ Measure

bench: ## Go benchmarks, then Holdfast beside Redis
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(UNIT)
	$(GO) run ./integration/bench

bench-compare: ## Go benchmarks of REF= (HEAD) against the working tree
	@dir=$$(mktemp -d); trap 'git worktree remove --force "$$dir/ref"; rm -rf "$$dir"' EXIT; \
	git worktree add --detach --quiet "$$dir/ref" $(REF); \
	(cd "$$dir/ref" && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCHCOUNT) $(UNIT)) > "$$dir/old.txt"; \
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCHCOUNT) $(UNIT) > "$$dir/new.txt"; \
	$(TOOL) benchstat "$$dir/old.txt" "$$dir/new.txt"

##@ Keep in order

fmt: ## format the code
	$(TOOL) golangci-lint fmt ./...

fmt-check: ## fail if the code is not formatted
	@out=$$($(TOOL) golangci-lint fmt --diff ./...); if [ -n "$$out" ]; then echo "$$out"; echo 'run "make fmt"'; exit 1; fi

vet: ## go vet, with and without fault hooks
	$(GO) vet ./...
	$(GO) vet -tags faults ./...

lint: ## golangci-lint, pinned in tools/go.mod
	$(TOOL) golangci-lint run ./...

arch: ## the import graph and the rules of the deterministic core
	$(GO) test ./internal/archtest

docs: ## regenerate what documents are generated
	@for dir in $(DOCUMENTED); do (set -x; $(GO) test -count=1 -run Document "$$dir" -rewrite); done

docs-check: ## fail if a generated document is stale
	@for dir in $(DOCUMENTED); do $(GO) test -count=1 -run Document "$$dir"; done

tidy-check: ## fail if go.mod is not tidy
	$(GO) mod tidy -diff

vuln: ## known vulnerabilities in what we use (asks vuln.go.dev)
	$(TOOL) govulncheck ./...

hooks: ## check commits before they are made
	git config core.hooksPath .githooks

clean: ## remove what was built; data in run/ stays
	rm -rf bin cover.out cover.html

.PHONY: help build build-faults up down status docker docker-packed test test-full deps check unit race cover fuzz \
	integration linear compat chaos bench bench-compare fmt fmt-check vet lint arch docs docs-check tidy-check vuln hooks clean
