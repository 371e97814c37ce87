"""Reports as `hybrid-llm stats` prints them, for tests of the tables."""

import io

from rich.console import Console

from proxy.cli.options import DEFAULT_DIMENSIONS
from proxy.cli.tables import stats_tables
from proxy.storage.queries import RequestQueries


def rendered_report(
    requests: RequestQueries, *, by: tuple[str, ...] = DEFAULT_DIMENSIONS, since: float = 0.0
) -> str:
    """The output of `hybrid-llm stats`, without trailing spaces."""
    console = Console(file=io.StringIO(), width=120)
    console.print(stats_tables(requests, by, since))
    text = console.file.getvalue()
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def assert_lines(text: str, *expected: str) -> None:
    """Assert that the text has these lines, ignoring differences in spaces."""
    lines = {" ".join(line.split()) for line in text.splitlines()}
    for line in expected:
        assert " ".join(line.split()) in lines, text
