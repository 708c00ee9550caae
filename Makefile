# Muelle. `make help` lists the targets.
export CGO_ENABLED = 0
export GOFLAGS = -buildvcs=false
export PATH := $(CURDIR)/bin:$(PATH):/usr/local/go/bin:/usr/sbin:/sbin

VERSION ?= $(shell cat VERSION)
LDFLAGS = -s -w -X muelle/api.Version=$(VERSION)
PREFIX ?= /usr/local

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: toolchain ## the static binaries in bin/
	hack/build.sh bin '$(LDFLAGS)'

.PHONY: release
release: toolchain ## binaries for amd64 and arm64 in dist/
	for arch in amd64 arm64; do GOARCH=$$arch hack/build.sh dist/$$arch '$(LDFLAGS)' || exit 1; done

.PHONY: demo demo-down
demo: ## build everything, bring examples/zones up and prove its zones
	@hack/demo.sh up
demo-down: ## end the demo and leave nothing
	@hack/demo.sh down

.PHONY: test
test: before deps build lint test-unit test-race test-root test-e2e test-vm ## everything CI runs
	@hack/leftovers.sh check bin/.before

.PHONY: before
before:
	@mkdir -p bin && hack/leftovers.sh list >bin/.before

.PHONY: test-unit
test-unit: toolchain ## the quick ring: no root, seconds
	go test ./...
	cd hack/images/mongo && go test ./...
	cd examples/zones/app && go test ./...

.PHONY: test-race
test-race: ## the quick ring under the race detector (needs gcc), without what links BuildKit
	CGO_ENABLED=1 go test -race $$(hack/racy.sh)

.PHONY: test-root
test-root: deps build ## packages against the kernel, in namespaces of their own
	hack/asroot.sh go test -tags root -p 1 -count=1 $$(hack/rooted.sh)

.PHONY: test-e2e
test-e2e: deps build ## the real binaries with the real docker client
	hack/asroot.sh go test -tags root -count=1 -timeout 30m ./test/e2e

.PHONY: test-vm
test-vm: deps build ## in virtual machines: marked end-to-end cases on cgroup v2, and systemd
	@hack/kernel.sh bin/vm/kernel
	@hack/unpack.sh bin/vm/apparmor apparmor
	@hack/asroot.sh hack/vmsystem.sh bin/vm/system
	hack/asroot.sh go test -tags vm -count=1 -timeout 60m -skip '^(TestSELinux|TestPodman|TestSwapOfVersion1)$$' ./test/vm

.PHONY: test-selinux
test-selinux: deps build ## in a virtual machine whose kernel enforces a policy of SELinux
	@hack/kernel.sh bin/vm/kernel
	@hack/unpack.sh bin/vm/apparmor apparmor
	@hack/unpack.sh bin/vm/checkpolicy checkpolicy
	hack/asroot.sh go test -tags vm -count=1 -timeout 60m -run '^TestSELinux$$' ./test/vm

.PHONY: test-podman
test-podman: deps build ## in virtual machines: podman with muelle-oci, systemd's journal, swap on cgroup v1
	@hack/kernel.sh bin/vm/kernel
	@hack/asroot.sh hack/vmsystem.sh bin/vm/system
	@hack/asroot.sh hack/vmsystem.sh bin/vm/podman podman runc conmon
	hack/asroot.sh go test -tags vm -count=1 -timeout 30m -run '^(TestPodman|TestSwapOfVersion1)$$' ./test/vm

.PHONY: lint
lint: toolchain ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'make lint: gofmt these'; exit 1; }
	go vet -tags root,vm ./...
	go tool -modfile=hack/tools/go.mod staticcheck -tags root,vm ./...

.PHONY: bench bench-networks bench-peers bench-table
bench: build ## times and memory, beside the peers that are installed
	@BENCH_COMMAND='make bench' hack/asroot.sh hack/bench/run.sh -part main
bench-networks: build ## 200 networks and 1,000 ports, beside the same peers: up to half an hour
	@BENCH_COMMAND='make bench-networks' hack/asroot.sh hack/bench/run.sh -part networks
bench-peers: build ## install Debian's docker.io, podman and crun, build nerdctl, then bench
	@hack/asroot.sh hack/bench/peers.sh
	@BENCH_COMMAND='make bench' hack/asroot.sh hack/bench/run.sh -part main
bench-table: ## write docs/performance.md's table and picture of the results in bin/bench
	@hack/bench/table.sh

.PHONY: compare
compare: build ## type the same commands at Debian's Docker, where installed, and at Muelle
	@hack/asroot.sh hack/compare/run.sh

.PHONY: oci-validation
oci-validation: build ## the OCI runtime-tools suite against muelle-oci and Debian's runc
	@hack/asroot.sh hack/oci-validation.sh

.PHONY: install
install: build ## into PREFIX, with the systemd unit and the group muelle
	@hack/asroot.sh hack/install.sh $(DESTDIR)$(PREFIX)

.PHONY: deps toolchain
deps: toolchain ## what tests and the demo need of Debian's packages
	@hack/asroot.sh hack/deps.sh
	@for d in examples/zones/app hack/images/mongo; do (cd $$d && go mod download) || exit 1; done
toolchain:
	@hack/toolchain.sh

.PHONY: clean
clean: ## remove bin/ and dist/
	rm -rf bin dist
