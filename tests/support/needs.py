"""Programs that some tests need, and skips where they are missing.

    @pytest.mark.needs("haproxy")     # on a test, or as a module's pytestmark
    needs.find("haproxy")             # in a fixture: the program's path

If the program is missing, the test is skipped and the summary names `make test-tools`. With
`--no-skips` the test fails instead.

    python tests/support/needs.py     # the Debian packages of the missing programs
"""

import glob
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

INSTALL: Final = "make test-tools"
_FOLDERS: Final = "/usr/sbin:/usr/local/sbin"  # not on the PATH of every user


class Program(NamedTuple):
    """A program, with its possible names and its Debian package.

    Attributes:
        names: names on the PATH, or patterns of absolute paths.
        package: None if `make test-tools` installs it without apt-get.
    """

    names: tuple[str, ...]
    package: str | None


PROGRAMS: Final = {
    "chromium": Program(
        ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"), "chromium"
    ),
    # A font with mathematics, so that pictures of formulas are the same everywhere.
    "maths-font": Program(
        ("/usr/share/fonts/truetype/dejavu/DejaVuMathTeXGyre.ttf",), "fonts-dejavu-extra"
    ),
    "postgresql": Program(
        ("initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/local/lib/postgresql/*/bin/initdb"),
        "postgresql",
    ),
    "pgbouncer": Program(("pgbouncer",), "pgbouncer"),
    "prometheus": Program(("prometheus",), "prometheus"),
    "promtool": Program(("promtool",), "prometheus"),
    "haproxy": Program(("haproxy",), "haproxy"),
    "kubectl": Program(("kustomize", "kubectl"), None),
    "systemd": Program(("systemd-analyze",), "systemd"),
    "gpg": Program(("gpg",), "gnupg"),
    # A Python package of the dev extra.
    "hadolint": Program(("hadolint",), None),
}


class Missing(Exception):
    """A program is not installed."""


def look_up(name: str) -> str | None:
    """Return the path of a program, or None if it is not installed."""
    environment = str(Path(sys.executable).parent)
    for candidate in PROGRAMS[name].names:
        if candidate.startswith("/"):
            path = max(glob.glob(candidate), default=None)  # noqa: PTH207 - the pattern is absolute
        else:
            path = (
                shutil.which(candidate)
                or shutil.which(candidate, path=environment)
                or shutil.which(candidate, path=_FOLDERS)
            )
        if path:
            return path
    return None


def find(name: str) -> str:
    """Return the path of a program. Raises Missing, which skips the test."""
    path = look_up(name)
    if path is None:
        give_up(name)
    return path


def give_up(name: str) -> NoReturn:
    """Skip the test because a program or Python package is missing. Raises Missing."""
    raise Missing(name)


def has_package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main() -> None:
    absent = {PROGRAMS[name].package for name in PROGRAMS if look_up(name) is None}
    print(" ".join(sorted(name for name in absent if name)))


if __name__ == "__main__":
    main()
