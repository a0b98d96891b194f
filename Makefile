# Two commands do it all on a new Debian 12 machine with Rust and root:
#   make demo    the main job on scratch hosts, told step by step
#   make test    every test
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := build/tools
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
FUZZ_TARGETS := certificate signature ca_file principals revoked agent decision options auth_info command ipc worker relay pam_words hosts feed policy admin_command login_proof front_socket guard_ca guard_host
SECONDS ?= 60

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# ---- what the machine must have -------------------------------------------------------------------------------

.PHONY: deps
deps: ## install the Debian packages that building and testing need (once; needs root)
	@packaging/dev/install-packages

.PHONY: trixie
trixie: build ## a Debian 13 root for lab hosts (OpenSSH 10, sudo-rs), made once
	@$(TARGET)/debug/ussh-lab trixie

# ---- building --------------------------------------------------------------------------------------------------

.PHONY: build
build: deps ## debug build of everything
	$(CARGO) build --locked --workspace

.PHONY: release
release: deps ## release build of everything
	$(CARGO) build --locked --workspace --exclude pam_ussh_panics --exclude pam_ussh_module --release
# One unit for the linker: direct calls in place of 9 KB of addresses that each load would fill in (docs/performance.md). The last `lto` counts.
	$(CARGO) rustc --locked --release -p pam_ussh_module --lib -- -C lto=fat

.PHONY: man
man: deps ## manual pages and completions in packaging/, from the definitions of the command lines
	USSH_WRITE_MANUALS=1 $(CARGO) test --locked --quiet -p ussh-wrapper -p usshca-admin -p ussh-hostd -p pam-ussh-check -- manual_and_completions

# ---- running ---------------------------------------------------------------------------------------------------

.PHONY: demo
demo: release ## the main job on scratch hosts, told step by step
	@$(TARGET)/release/ussh-demo

.PHONY: lab
lab: release ## a shell on the laptop of a running lab, with a card of things to try
	@$(TARGET)/release/ussh-demo shell

# ---- judging ---------------------------------------------------------------------------------------------------

.PHONY: test
test: build trixie ## every test, many of them at once; JOBS=1 for one binary after the other
	CARGO="$(CARGO)" tests/run

.PHONY: soak
soak: build trixie ## the same tests and those of `make asan` with the full counts (long)
	USSH_SOAK=1 $(CARGO) test --locked --workspace --no-fail-fast
	USSH_SOAK=1 $(MAKE) asan

# The compiler's switch is an unstable one. A target that is named keeps build scripts out of it; documentation's tests would be linked without it. No fake stacks: the child that connects
# (ussh-os, connecting_child.rs) has the thread-local storage of the thread that waits for it, and so its list of them.
.PHONY: asan
asan: deps ## pam_ussh and the crates of ours in it under AddressSanitizer and LeakSanitizer: a finding is a test that fails; some 4 min to build at first, then minutes
	export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes" CARGO_TARGET_DIR=$(abspath $(TARGET))/asan \
	  USSH_ASAN=1 ASAN_OPTIONS=detect_stack_use_after_return=0; \
	target=$$(rustc --print host-tuple); \
	$(CARGO) build --locked --target $$target -p pam_ussh_module; \
	$(CARGO) test --locked --no-fail-fast --target $$target -p ussh-core -p ussh-os -p pam_ussh --features ussh-os/pam-application --tests

.PHONY: bench
bench: release ## what is fast enough: a table of ratios
	@packaging/dev/install-packages libpam-ssh-agent-auth
	@$(TARGET)/release/ussh-bench

# relay, front_socket: what is logged of each login would drown the rest. front_socket: what its CA keys point to counts as lost, since locked memory is not looked through for that; guard_*: so does a thread that is about to end. Their panics are seen when `make test` replays the input.
.PHONY: fuzz
fuzz: deps $(TOOLS)/bin/cargo-fuzz ## SECONDS=60 for each parser, FUZZ_TARGETS=options for one; what is found lies in tests/fuzz/libfuzzer/artifacts; up to 10 min to build at first
	@for target in $(FUZZ_TARGETS); do mkdir -p build/corpus/$$target; done
	@cd tests/fuzz/libfuzzer && for target in $(FUZZ_TARGETS); do \
	  ASAN_OPTIONS=detect_leaks=$$(case $$target in front_socket|guard_*) echo 0;; *) echo 1;; esac) \
	  RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(abspath $(TARGET))/fuzz $(abspath $(TOOLS))/bin/cargo-fuzz run --fuzz-dir . --release $$target \
	    $(abspath build)/corpus/$$target $(abspath tests/fuzz/corpus)/$$target -- -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	      $$(case $$target in relay) echo -close_fd_mask=2;; front_socket) echo -close_fd_mask=2 -detect_leaks=0;; guard_*) echo -detect_leaks=0;; esac); \
	done

$(TOOLS)/bin/cargo-fuzz:
	@echo "building cargo-fuzz, once: some minutes"
	$(CARGO) install --locked --quiet --root $(TOOLS) cargo-fuzz@$(CARGO_FUZZ_VERSION)

.PHONY: check
check: deps $(TOOLS)/bin/cargo-deny ## format, lints, docs, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(TOOLS)/bin/cargo-deny --log-level error check bans licenses sources

.PHONY: advisories
advisories: $(TOOLS)/bin/cargo-deny ## known vulnerabilities of the dependencies (fetches the RustSec database)
	$(TOOLS)/bin/cargo-deny check advisories

$(TOOLS)/bin/cargo-deny:
	@echo "building cargo-deny, once: some minutes"
	$(CARGO) install --locked --quiet --root $(TOOLS) cargo-deny@$(CARGO_DENY_VERSION)

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean
	rm -rf build
