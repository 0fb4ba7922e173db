# Bare "make" prints the targets. Nothing but Go is needed, except by "e2e",
# which installs what it needs on a Debian machine.

golangci := go tool -modfile=tools/go.mod golangci-lint
gotestsum := go tool -modfile=tools/go.mod gotestsum

.DEFAULT_GOAL := help
.PHONY: help check fmt lint test soak e2e screenshots bench build demo ci

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: fmt lint test ## format, lint and test: before every commit

fmt: ## format the Go files in place
	$(golangci) fmt ./...

lint: ## run the linters and the layer rules of .golangci.yml
	$(golangci) config verify
	$(golangci) run ./...

test: ## run the tests with the race detector
	$(gotestsum) --format pkgname-and-test-fails -- -race ./...

soak: ## kill, reload, fill, purge and start the mirror at length, and kill copies (two hours, 6 GB of disk; the last on Debian, as root)
	SOAK_KILLS=300 SOAK_EVICT_KILLS=200 SOAK_RELOADS=1000 SOAK_LIMIT=10m SOAK_PURGE=100000 SOAK_START=1000000 go test -count=1 -timeout 120m -v ./soak
	SOAK_STORE_KILLS=200 SOAK_STORE_BLOBS=1000000 go test -count=1 -timeout 20m -v -run "TestKilledWhileItEvicts|ManyBlobs" ./internal/store/disk
	SOAK_DELETE_KILLS=200 go test -count=1 -timeout 20m -v -run TestKilledWhileItDeletes ./internal/inventory
	SOAK_CARRY_KILLS=200 bash e2e/run.sh -timeout 60m -run '^TestKilledAtAnyMoment'

e2e: ## pull with real clients from real servers (Debian, as root)
	bash e2e/run.sh

screenshots: ## take the pictures of docs/images anew, in Chromium (Debian, as root)
	SAMPAN_SCREENSHOTS=docs/images bash e2e/run.sh -run '^TestBrowser'

bench: ## measure side by side with other servers, write bench/README.md
	bash bench/run.sh

build: ## build the static binary into dist/
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o dist/sampan ./cmd/sampan

demo: ## show a cold pull, a warm pull and a stampede, offline
	go run ./cmd/sampan demo

ci: ## everything that has to pass before a change is accepted
	bash .ci/run
