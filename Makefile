# Everything a developer types. `make help` lists it.

# The product has no C in it; with cgo off, one build serves every Linux. Both settings
# hold for builds, tests and checks, so that they share what they compile.
export CGO_ENABLED = 0
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

GO        ?= go
DIR       ?= ./data
FUZZTIME  ?= 10s
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT     = $(shell git rev-parse --short HEAD 2>/dev/null || echo none)
PLATFORMS  = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
APOGEE_BIN = $(CURDIR)/bin/apogee
GOTEST     = $(GO) test $(TESTFLAGS)
# go test that keeps its results for `make compatibility`: $(call RECORD,NAME)
RECORD     = COMMIT=$(COMMIT) $(CURDIR)/bin/gotest $(CURDIR)/out/results/$(1).json $(TESTFLAGS)

.DEFAULT_GOAL := build

.PHONY: build
build: ## Build the binary: bin/apogee
	$(GO) build -ldflags '-X main.version=$(VERSION)' -o bin/apogee ./cmd/apogee

.PHONY: run
run: build ## Build, and start every role on ./data (DIR=..., ARGS='--namesrv-port 9876 ...')
	bin/apogee start --dir $(DIR) $(ARGS)

.PHONY: unit
unit: bin/gotest ## Tests of the product's module; under a minute
	$(call RECORD,unit) -timeout 5m ./...

bin/gotest: $(wildcard tools/gotest/*.go)
	@cd tools && $(GO) build -o ../bin/ ./gotest

.PHONY: test
test: unit build ## unit, then the official Go client, embedded and against bin/apogee; under five minutes
	cd tools && $(GOTEST) ./...
	cd interop/embed && $(call RECORD,interop-embed) -count=1 -timeout 5m ./...
	cd interop/go && APOGEE_BIN=$(APOGEE_BIN) $(call RECORD,interop-go) -count=1 -timeout 10m ./...

.PHONY: interop
interop: ## The official Java clients and mqadmin against bin/apogee; needs a JDK >= 11 and Maven
	@tools/need-jdk.sh
	@$(MAKE) --no-print-directory build
	@rm -rf interop/*/target/*-reports
	@mkdir -p out/results && echo '{"Commit":"$(COMMIT)"}' >out/results/maven.json
	APOGEE_BIN=$(APOGEE_BIN) mvn -B -ntp -f interop/java/pom.xml verify
	APOGEE_BIN=$(APOGEE_BIN) mvn -B -ntp -f interop/mqadmin/pom.xml verify
	$(BOTH) $(call RECORD,interop-both) -count=1 -timeout 10m -run 'TestChurn|TestSoak' .

# Tests of interop/go with both languages, as soon as Maven has compiled the Java one.
BOTH = cd interop/go && APOGEE_BIN=$(APOGEE_BIN) INTEROP_JAVA=$(CURDIR)/interop/java/target
JAVA_WORKER = mvn -q -B -ntp -f interop/java/pom.xml process-test-classes

.PHONY: soak
soak: ## Go and Java clients for SOAK_MINUTES=10, with and without a restart of the broker a minute
	@tools/need-jdk.sh
	@$(MAKE) --no-print-directory build
	$(JAVA_WORKER)
	$(BOTH) SOAK_MINUTES=$(or $(SOAK_MINUTES),10) $(GOTEST) -count=1 -timeout 24h -run TestSoak -v .

.PHONY: churn
churn: ## Go and Java consumers that join, leave and are killed, CHURN_EVENTS=200 times
	@tools/need-jdk.sh
	@$(MAKE) --no-print-directory build
	$(JAVA_WORKER)
	$(BOTH) CHURN_EVENTS=$(or $(CHURN_EVENTS),200) $(GOTEST) -count=1 -timeout 24h -run TestChurn -v .

.PHONY: apache-examples
apache-examples: ## RocketMQ's own examples and load generators against bin/apogee; needs the default ports
	@tools/need-jdk.sh
	@$(MAKE) --no-print-directory build
	interop/apache-examples/run.sh

.PHONY: compatibility
compatibility: ## docs/COMPATIBILITY.md from the results of make test interop (CHECK=-check: compare, write nothing)
	@cd tools && $(GO) build -o ../bin/ ./compat
	bin/compat $(CHECK)

# The recipes of docs/EMBEDDING.md. pytest goes into a virtual environment, made again when its version changes.
.PHONY: examples
examples: out/pytest ## A broker in tests of JUnit, pytest and Node; needs a JDK, Maven, Python and Node
	@tools/need-jdk.sh
	@tools/need-python-node.sh
	@$(MAKE) --no-print-directory build
	APOGEE_BIN=$(APOGEE_BIN) mvn -B -ntp -f examples/junit/pom.xml test
	cd examples/pytest && APOGEE_BIN=$(APOGEE_BIN) PYTHONDONTWRITEBYTECODE=1 $(CURDIR)/out/pytest/bin/pytest -p no:cacheprovider
	cd examples/node && APOGEE_BIN=$(APOGEE_BIN) node --test

out/pytest: examples/pytest/requirements.txt
	@tools/need-python-node.sh
	rm -rf $@
	python3 -m venv $@
	$@/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

.PHONY: race
race: ## unit under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GOTEST) -race -timeout 15m ./...

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (10s) each
	tools/fuzz.sh $(FUZZTIME)

# On two cores: 5 s. From an empty build cache, once: 190 s of CPU, which is 95 s on two
# idle cores, of which 50 s compile the dependencies (as any build or test has to), 10 s
# are vet's and 10 s staticcheck's pass over them, and 12 s compile staticcheck.
.PHONY: check
check: fmt vet staticcheck layers crosscheck ## What must hold before a commit; under 90 s
	@echo 'check: ok'

.PHONY: fmt
fmt: ## gofmt, on every Go file
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on:" $$unformatted; exit 1; }

.PHONY: vet
vet: ## go vet, and go.mod says what is imported
	$(GO) vet ./...
	$(GO) mod tidy -diff

# Optimised, staticcheck takes 20 s to compile instead of 12 and runs no faster: its
# results are cached.
TOOLFLAGS = -gcflags='honnef.co/...=-N -l' -gcflags='golang.org/x/...=-N -l' -ldflags='-s -w'

.PHONY: staticcheck
staticcheck: ## staticcheck, pinned in tools/go.mod
	@cd tools && $(GO) build $(TOOLFLAGS) -o ../bin/ honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

.PHONY: layers
layers: ## Layers, ratchets, and docs/DEPENDENCIES.md
	$(GO) test -count=1 .

# A cross-build from an empty cache compiles 400 packages for each platform, nearly all
# of them not ours: 44 s a platform on two cores, 4.5 minutes for the six. Type-checking
# the same packages from source finds what a missing fallback or a wrong syscall breaks,
# in 4 s for the six, cache or no cache. `make cross` builds and links them for real.
.PHONY: crosscheck
crosscheck: ## Type-check for every platform, from source
	@cd tools && $(GO) build -o ../bin/ ./crosscheck
	bin/crosscheck $(PLATFORMS)

.PHONY: cross
cross: ## Build and link for every platform: out/apogee-*
	@set -e; for p in $(PLATFORMS); do \
	  out=out/apogee-$${p%/*}-$${p#*/}; case $$p in windows/*) out=$$out.exe;; esac; echo "$$out"; \
	  GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -ldflags '-X main.version=$(VERSION)' -o $$out ./cmd/apogee; \
	done

.PHONY: bench
bench: build ## Measure this build
	APOGEE_BIN=$(APOGEE_BIN) bench/run.sh

.PHONY: bench-peers
bench-peers: build ## Measure this build beside Apache RocketMQ and others
	APOGEE_BIN=$(APOGEE_BIN) bench/peers.sh

.PHONY: bench-scale
bench-scale: build ## A start with a log of 6 GB, and 100,000 queues; needs 8 GiB of disk
	APOGEE_BIN=$(APOGEE_BIN) bench/scale.sh

.PHONY: clean
clean: ## Remove what was built; ./data stays
	rm -rf bin out interop/*/target examples/junit/target

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
