"""Programs that some tests need beyond Python: a closed list, and what happens without one.

    @pytest.mark.needs("haproxy")     # on a test, or as a module's pytestmark
    needs.find("haproxy")             # in a fixture: the program's path

Where the program is missing the test is skipped, and the summary names `make test-tools`.
With `--no-skips` such a test fails instead.

    python tests/support/needs.py     # the Debian packages of the missing programs
"""

import glob
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

INSTALL: Final = "make test-tools"
_FOLDERS: Final = "/usr/sbin:/usr/local/sbin"  # not on every user's PATH


class Program(NamedTuple):
    """A program, by the names it may have, and the Debian package that has it.

    Attributes:
        names: any of these on the PATH, or a pattern of absolute paths.
        package: None where `make test-tools` installs it without apt-get.
    """

    names: tuple[str, ...]
    package: str | None


PROGRAMS: Final = {
    "chromium": Program(
        ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"), "chromium"
    ),
    "postgresql": Program(
        ("initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/local/lib/postgresql/*/bin/initdb"),
        "postgresql",
    ),
    "prometheus": Program(("prometheus",), "prometheus"),
    "promtool": Program(("promtool",), "prometheus"),
    "haproxy": Program(("haproxy",), "haproxy"),
    "kubectl": Program(("kustomize", "kubectl"), None),
    "systemd": Program(("systemd-analyze",), "systemd"),
    "gpg": Program(("gpg",), "gnupg"),
    # A Python package of the dev extra, which `pip install -e .` alone does not bring.
    "hadolint": Program(("hadolint",), None),
}


class Missing(Exception):
    """A program is not installed."""


def look_up(name: str) -> str | None:
    """Return the path of a program of the list; None where it is not installed."""
    beside = str(Path(sys.executable).parent)
    for candidate in PROGRAMS[name].names:
        if candidate.startswith("/"):
            found = max(glob.glob(candidate), default=None)  # noqa: PTH207 - the pattern is absolute
        else:
            found = (
                shutil.which(candidate)
                or shutil.which(candidate, path=beside)
                or shutil.which(candidate, path=_FOLDERS)
            )
        if found:
            return found
    return None


def find(name: str) -> str:
    """Return the path of a program. Raises Missing, which skips the test."""
    found = look_up(name)
    if found is None:
        give_up(name)
    return found


def give_up(name: str) -> NoReturn:
    """Skip the test for want of a program or a Python package."""
    raise Missing(name)


def has_package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main() -> None:
    absent = {PROGRAMS[name].package for name in PROGRAMS if look_up(name) is None}
    print(" ".join(sorted(name for name in absent if name)))


if __name__ == "__main__":
    main()
