"""PgBouncer in transaction mode before a PostgreSQL of the tests.

    with PostgresServer() as server, server.new_database() as url, PgBouncer(url) as pooled:
        store = Store(StorageConfig(url=pooled.url))

Its settings are those of docs/scaling.md.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

import needs
from ports import free_ports
from postgres import USER

START_SECONDS = 20.0
SETTINGS = """\
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 1000
ignore_startup_parameters = options
"""


class PgBouncer:
    """A pool of server connections on a free port.

    Args:
        url: of the database behind it.
        pool_size: server connections for all clients together.

    Attributes:
        url: of the same database through the pool.
    """

    def __init__(self, url: str, *, pool_size: int = 4) -> None:
        self._program = needs.find("pgbouncer")
        self._folder = Path(tempfile.mkdtemp(prefix="router-pgbouncer-"))
        address = urlsplit(url)
        (port,) = free_ports(1)
        self.url = url.replace(f":{address.port}/", f":{port}/")
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(
                host=address.hostname,
                server_port=address.port,
                port=port,
                folder=self._folder,
                pool_size=pool_size,
            )
        )
        (self._folder / "users").write_text(f'"{USER}" ""\n')
        self._command = [self._program, str(settings)]
        self._as_user = USER if os.geteuid() == 0 else None  # it refuses to run as root
        if self._as_user is not None:
            self._folder.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> "PgBouncer":
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, user=self._as_user, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url, prepare_threshold=None).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise RuntimeError(f"PgBouncer did not start:\n{log.read_text()}") from None
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
