"""A temporary PostgreSQL server for the tests.

    with PostgresServer() as server, server.new_database() as url:
        store = Store(StorageConfig(url=url))
        server.restart()

It runs with `fsync=off`, so a crash of the machine may lose data.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

import needs
from ports import free_ports

USER = "postgres"  # system user of the server, which must not be root; and database user
_INSTALLED = "postgresql/*/bin"
_PROGRAMS = ("initdb", "pg_ctl", "postgres")


class PostgresServer:
    """A server on a free port of 127.0.0.1.

    Args:
        folder: keeps its cluster for a later server; None for a temporary folder. Every user must
            be able to enter the folder's parents.
        settings: more lines of its configuration.
    """

    def __init__(self, folder: Path | None = None, *, settings: str = "") -> None:
        self._programs = _find_programs()
        self._is_kept = folder is not None
        # Not below pytest's folder, which other users cannot enter.
        self._folder = folder or Path(tempfile.mkdtemp(prefix="router-postgres-"))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings = settings
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._as_user = USER if os.geteuid() == 0 else None
        self._number = 0
        self._free: list[str] = []  # unused databases
        self.port = 0

    def __enter__(self) -> "PostgresServer":
        if self._as_user is not None:
            shutil.chown(self._folder, self._as_user)
        try:
            options = "--auth=trust --encoding=UTF8 --locale=C --no-sync --no-instructions"
            if not self._data.exists():
                self._run("initdb", "-D", self._data, "-U", USER, *options.split())
            (self.port,) = free_ports(1)
            with (self._data / "postgresql.conf").open("a") as settings:  # the last line counts
                settings.write(
                    f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n"
                    f"unix_socket_directories = '{self._folder}'\nfsync = off\n"
                    f"shared_buffers = 32MB\nmax_connections = 60\n{self._settings}\n"
                )
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(mode="fast" if self._is_kept else "immediate")
        self._remove()

    def start(self) -> None:
        """Start it; return when it accepts connections."""
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", self._data, "-l", self._log)

    def stop(self, *, mode: str = "immediate") -> None:
        """Stop it: immediately, as in a crash, or `fast`, with everything written."""
        self._run("pg_ctl", "stop", "-w", "-t", "60", "-D", self._data, "-m", mode)

    @property
    def pid(self) -> int:
        """The first process of the server, which starts one for each connection."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """The URL of an empty database, which is emptied for reuse afterwards."""
        if not self._free:
            self._number += 1
            self._free.append(f"test_{self._number}")
            self._administer("postgres", f"CREATE DATABASE {self._free[-1]}")
        name = self._free.pop()
        yield self.url_of(name)
        self._administer(
            name,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
        )
        self._free.append(name)

    def kept_database(self) -> str:
        """The URL of the database of a kept cluster, which is empty at first."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = 'kept'"
            if connection.execute(query).fetchone() is None:
                connection.execute("CREATE DATABASE kept")
        return self.url_of("kept")

    def _administer(self, database: str, *statements: str) -> None:
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        # Output goes to a file, because a started server would keep a pipe open.
        with (self._folder / f"{program}.log").open("w+") as printed:
            done = subprocess.run(
                [self._programs / program, *arguments],
                user=self._as_user,
                cwd=self._folder,
                env=os.environ | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                check=False,
            )
            printed.seek(0)
            if done.returncode:
                log = self._log.read_text() if self._log.exists() else ""
                raise RuntimeError(f"{program} failed:\n{printed.read()}{log}")

    def _remove(self) -> None:
        if self._is_kept:
            return
        shutil.rmtree(self._folder, ignore_errors=True)


def _find_programs() -> Path:
    """The folder of the newest installed version, which is not on the PATH in Debian."""
    in_path = shutil.which("initdb")
    installed = (
        folder
        for root in (Path("/usr/lib"), Path("/usr/local/lib"))
        for folder in sorted(root.glob(_INSTALLED), key=_version_of, reverse=True)
    )
    for folder in (*([Path(in_path).resolve().parent] if in_path else []), *installed):
        if all((folder / program).is_file() for program in _PROGRAMS):
            return folder
    raise needs.Missing("postgresql")


def _version_of(folder: Path) -> float:
    version = folder.parent.name
    return float(version) if version.replace(".", "", 1).isdigit() else 0.0
