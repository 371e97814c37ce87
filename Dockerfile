# The serving image: no torch, the router model inside (the package carries it), not root.
#   docker build -t hybrid-llm-router .
#   docker run -p 127.0.0.1:8080:8080 -v router-data:/var/lib/hybrid-llm -e OPENAI_API_KEY \
#     -e ROUTER_API_KEYS=a-key-for-clients --stop-timeout 30 \
#     -e OLLAMA_BASE_URL=http://host.docker.internal:11434 \
#     --add-host host.docker.internal:host-gateway hybrid-llm-router
# Inside, localhost is the container, so Ollama needs an address; on Linux it must also listen on
# more than 127.0.0.1 (OLLAMA_HOST). compose.yaml runs one beside the proxy.

FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY router_model router_model
COPY training training
COPY configs configs
COPY data/models data/models
COPY data/questions.jsonl data/checks.jsonl data/everyday.jsonl data/
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /var/lib/hybrid-llm hybrid-llm
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY configs configs
COPY --chown=hybrid-llm data/results data/results
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STORAGE_URL=sqlite:////var/lib/hybrid-llm/router.db \
    EXPERIMENTS_WORK=/var/lib/hybrid-llm/work
USER hybrid-llm
VOLUME /var/lib/hybrid-llm
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["hybrid-llm"]
CMD ["serve", "--config", "configs/default.yaml", "--host", "0.0.0.0"]
