"""The peers of the benchmark: nginx and other gateways.

    nginx     a reverse proxy only: about the best possible. Used where it is installed.
    litellm   LiteLLM's proxy, by pip into .venv-peers/litellm
    portkey   Portkey's gateway, by npm into .venv-peers/portkey

Each is configured for speed as its documentation advises: one worker, no database, no request log.
They do more per request than a relay must, so the figures do not rank them.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from load import KEY

FOLDER: Final = Path(__file__).resolve().parents[2] / ".venv-peers"
LITELLM: Final = "litellm[proxy]==1.108.7"
# With the versions that npm would resolve, every stream fails with status 500; a dependency
# requires the newer one: https://github.com/Portkey-AI/gateway/issues/1389
PORTKEY: Final = ("@portkey-ai/gateway@1.15.2", "@hono/node-server@1.14.1", "--legacy-peer-deps")


class NotHere(Exception):
    """A peer cannot run. The message has its name and the reason."""


class Peer(NamedTuple):
    """How to start a peer.

    Attributes:
        path: answers with success once the peer is ready.
        environment: variables in addition to ours.
        headers: header lines that its requests need, each with its line break.
    """

    name: str
    version: str
    command: tuple[str, ...]
    path: str = "/"
    environment: Mapping[str, str] = {}
    headers: bytes = b""


class Place(NamedTuple):
    """Ports and folder of a peer.

    Attributes:
        port: of the peer.
        upstream_port: of the mock.
        folder: for its files; removed afterwards.
    """

    port: int
    upstream_port: int
    folder: Path


NGINX_CONFIG: Final = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 32m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/client;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream mock {{
    server 127.0.0.1:{upstream_port};
    keepalive 512;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

LITELLM_CONFIG: Final = """
model_list:
  - model_name: cloud
    litellm_params:
      model: openai/mock
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: dummy
litellm_settings:
  set_verbose: false
  telemetry: false
general_settings:
  master_key: {key}
  disable_spend_logs: true
"""


def prepare_nginx(place: Place) -> Peer:
    """Configure nginx. Raises NotHere."""
    binary = shutil.which("nginx")
    if binary is None:
        raise NotHere("nginx: not on the PATH")
    printed = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    version = re.search(r"nginx/(\S+)", printed)
    folder = place.folder / "nginx"
    folder.mkdir()
    # Its worker would otherwise run as a user who cannot read the folder.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.getuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(user=user, **place._asdict() | {"folder": folder}))
    command = (binary, "-c", str(config), "-p", str(folder), "-e", "stderr", "-g", "daemon off;")
    return Peer("nginx", version[1] if version else "?", command)


def prepare_litellm(place: Place) -> Peer:
    """Install it if it is missing. Raises NotHere."""
    folder = FOLDER / "litellm"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "litellm").exists():
        say(f"installing {LITELLM} in {folder}")
        run("litellm", sys.executable, "-m", "venv", str(folder))
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run("litellm", str(python), *pip, LITELLM)
    program = "from importlib.metadata import version; print(version('litellm'))"
    version = run("litellm", str(python), "-c", program).strip()
    config = place.folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(key=KEY, upstream_port=place.upstream_port))
    return Peer(
        "litellm",
        version,
        (
            str(python), str(folder / "bin" / "litellm"), "--config", str(config),
            "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1",
        ),
        path="/health/liveliness",
        environment={
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download of a price list
        },
    )  # fmt: skip


def prepare_portkey(place: Place) -> Peer:
    """Install it if it is missing. Raises NotHere."""
    node = shutil.which("node")
    if node is None:
        raise NotHere("portkey: needs Node.js, and node is not on the PATH")
    folder = FOLDER / "portkey"
    package = folder / "node_modules" / "@portkey-ai" / "gateway"
    server = package / "build" / "start-server.js"
    if not server.exists():
        say(f"installing {PORTKEY[0]} in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        npm = ("npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund")
        run("portkey", *npm, *PORTKEY)
    version = json.loads((package / "package.json").read_text())["version"]
    return Peer(
        "portkey",
        version,
        (node, str(server), f"--port={place.port}", "--headless"),
        environment={"NODE_ENV": "production"},
        headers=b"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:%d/v1\r\n"
        % place.upstream_port,
    )


PEERS: Final[Mapping[str, Callable[[Place], Peer]]] = {
    "nginx": prepare_nginx,
    "litellm": prepare_litellm,
    "portkey": prepare_portkey,
}


def say(step: str) -> None:
    print(f"… {step}", file=sys.stderr, flush=True)


def run(name: str, *command: str) -> str:
    """Return the output of a command. Raises NotHere with the end of its output when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotHere(f"{name}: {command[0]}: {error.strerror}") from None
    if done.returncode:
        output = (done.stderr or done.stdout).strip()[-500:]
        raise NotHere(f"{name}: `{' '.join(command)}` ended with {done.returncode}: {output}")
    return done.stdout
