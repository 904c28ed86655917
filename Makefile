# Everything that is more than a call of go stands in scripts/.

GO ?= go
FUZZTIME ?= 60s
TOOL = $(GO) tool -modfile=tools/go.mod

.PHONY: help build check test coverage lint fmt fuzz bench cover demo clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

build: ## bin/btns, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/btns ./cmd/btns

check: lint ## before a commit: lint and the quick tests, about a minute
	$(GO) test -race -short -shuffle=on ./...

test: ## everything, real peers included; needs root, installs what it lacks
	@GO="$(GO)" scripts/test.sh

coverage: ## docs/coverage.md, from the last make test
	$(GO) run ./internal/coverage write bin/results.txt

lint: ## the linters of .golangci.yml, pinned in tools/go.mod
	$(TOOL) golangci-lint run

fmt: ## format the code as lint wants it
	$(TOOL) gofumpt -l -w .

fuzz: ## every fuzz target for FUZZTIME (60s) each
	@GO="$(GO)" scripts/fuzz.sh "$(FUZZTIME)"

bench: ## rates and ratios, by hand; needs root for those of the planes
	@GO="$(GO)" scripts/bench.sh

cover: ## coverage of the ordinary tests, in bin/cover.html
	@mkdir -p bin
	$(GO) test -coverprofile=bin/cover.out ./...
	$(GO) tool cover -html=bin/cover.out -o bin/cover.html

demo: ## the main job on this machine: two hosts, real traffic, an impostor; needs root
	@GO="$(GO)" scripts/demo.sh

clean: ## remove what make has built
	rm -rf bin
