# Sheave. `make help` lists what there is.
CARGO ?= cargo
FOLDER ?= examples/routes

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: run
run: ## build, then serve the example folder with an echo backend until Ctrl-C
	$(CARGO) build --release --bin sheave --example echo
	@sh examples/run.sh "$(FOLDER)"

.PHONY: test
test: ## every test; needs cargo, and python3 and node for the independent clients
	$(CARGO) test --all-targets

.PHONY: check
check: check-except-test test ## everything CI checks

.PHONY: check-except-test
check-except-test: fmt-check lint docs deny check-generated ## everything CI checks besides the tests

.PHONY: fmt
fmt: ## format the code
	$(CARGO) fmt

.PHONY: fmt-check
fmt-check: ## fail on unformatted code
	$(CARGO) fmt --check

.PHONY: lint
lint: ## clippy, with warnings denied
	$(CARGO) clippy --all-targets -- -D warnings

.PHONY: docs
docs: ## build the documentation, with warnings denied
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --no-deps --document-private-items

.PHONY: deny
deny: ## licences, bans and sources of every dependency; advisories where their database can be reached
	$(CARGO) deny --all-features check licenses bans sources
	@if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check advisories; \
	else echo "advisories: NOT CHECKED, their database cannot be reached from here"; fi

.PHONY: generate
generate: ## write crds/ and the golden files anew from the code
	UPDATE_GOLDEN=1 $(CARGO) test --test crds --test golden

.PHONY: check-generated
check-generated: ## fail when crds/ differs from the types
	$(CARGO) test --test crds committed_crds

.PHONY: bench
bench: ## measure Sheave beside nginx and haproxy, and compile and lookup on their own
	$(CARGO) build --release --bin sheave
	$(CARGO) bench --bench peers -- --report target/peers.md
	$(CARGO) bench --bench compile --bench find

.PHONY: crds
crds: ## print the CRDs
	@$(CARGO) run -q --bin sheave -- crd
