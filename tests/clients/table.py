"""The table of clients and features, from the outcomes of their tests.

    make test-clients                            # runs the tests and writes the outcomes
    .venv/bin/python tests/clients/table.py      # prints the table
    … table.py --check                           # compares it with README.md's, if it has one

The name of the file (or suite) is the client, and the first word of a test's name is the feature. A
feature works when all of its tests passed. The tests named `saved` measure what a client saves with
each local model of the stage. Versions are the pinned ones.
"""

import argparse
import json
import re
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
OUTCOMES: Final = ROOT / ".venv-clients" / "outcomes"
BEGIN, END = "<!-- clients -->\n", "<!-- /clients -->"

FEATURES: Final = {
    "chat": "chat",
    "stream": "stream",
    "tools": "tools",
    "structured": "structured output",
    "images": "images",
    "responses": "responses",
    "embeddings": "embeddings",
    "errors": "errors",
}
# The columns of `saved`, by what the tests call them.
SAVED: Final = {"saved": "saved", "saved_phi3": "saved, phi3"}


class Client(NamedTuple):
    """A row: title, package, test run, and the name of its tests."""

    title: str
    package: str
    run: str
    suite: str


CLIENTS: Final = (
    Client("OpenAI for Python", "openai", "newest", "openai"),
    Client("OpenAI for Python, older", "openai", "older", "openai"),
    Client("OpenAI for JavaScript", "openai", "node", "openai"),
    Client("Vercel AI SDK, `@ai-sdk/openai`", "@ai-sdk/openai", "node", "@ai-sdk/openai"),
    Client(
        "Vercel AI SDK, `@ai-sdk/openai-compatible`",
        "@ai-sdk/openai-compatible",
        "node",
        "@ai-sdk/openai-compatible",
    ),
    Client("LangChain, `ChatOpenAI`", "langchain-openai", "newest", "langchain"),
    Client("LangChain, `ChatOllama`", "langchain-ollama", "newest", "langchain_ollama"),
    Client("LangGraph, `ChatOpenAI`", "langgraph", "newest", "langgraph"),
    Client("LlamaIndex, `OpenAILike`", "llama-index-llms-openai-like", "older", "llama_index"),
    Client("Pydantic AI", "pydantic-ai-slim", "newest", "pydantic_ai"),
    Client("OpenAI Agents SDK", "openai-agents", "newest", "agents"),
    Client("smolagents, `CodeAgent`", "smolagents", "newest", "smolagents"),
    Client("smolagents, `ToolCallingAgent`", "smolagents", "newest", "smolagents_tools"),
    Client("DSPy", "dspy", "newest", "dspy"),
    Client("LiteLLM", "litellm", "newest", "litellm"),
    Client("Ollama for Python", "ollama", "newest", "ollama"),
    Client("Ollama for JavaScript", "ollama", "node", "ollama"),
    Client("Anthropic for Python", "anthropic", "newest", "anthropic"),
    Client("Instructor", "instructor", "older", "instructor"),
    Client("`llm`", "llm", "newest", "llm"),
    Client("curl", "", "newest", "curl"),
)
_NOT_PASSED: Final = {"failure", "error", "skipped"}
_MEASUREMENT: Final = re.compile(r"\s*(\w+): (\d.*\d)\s*")
PINS: Final = {"newest": "requirements.in", "older": "requirements-older.in"}


class Outcomes:
    """The outcomes of a test run."""

    def __init__(self, run: str) -> None:
        parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
        root = ET.parse(OUTCOMES / f"{run}.xml", parser).getroot()
        # The results of the tests by (suite, feature).
        self.passed: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for suite, name, case in _cases(root, ""):
            feature = re.split(r"[^a-z]", name)[0]
            is_passed = not any(child.tag in _NOT_PASSED for child in case)
            self.passed[suite, feature].append(is_passed)
        # The measurements by (suite, name).
        self.saved = {(suite, name): value for suite, name, value in _measurements(root)}


def _cases(element: ET.Element, suite: str) -> Iterator[tuple[str, str, ET.Element]]:
    """All tests with their suites: pytest has a class name, Node's runner nested suites."""
    for child in element:
        if child.tag == "testsuite":
            yield from _cases(child, child.get("name", ""))
        elif child.tag == "testcase":
            name, within = child.get("name", ""), child.get("classname", "")
            if within.startswith("test_"):
                suite, name = within.removeprefix("test_"), name.removeprefix("test_")
            yield suite, name, child


def _measurements(root: ET.Element) -> Iterator[tuple[str, str, str]]:
    """All measurements with suite and name: pytest has properties, Node's runner comments."""
    for suite, _, case in _cases(root, ""):
        for item in case.iter("property"):
            yield suite, item.get("name", ""), item.get("value", "")
    for element in root.iter("testsuite"):
        for child in element:
            if child.tag is ET.Comment and (match := _MEASUREMENT.fullmatch(child.text or "")):
                yield element.get("name", ""), match[1], match[2]


def version_of(client: Client) -> str:
    if client.run == "node":
        package = json.loads((HERE / "node" / "package.json").read_text(encoding="utf-8"))
        return str(package["dependencies"][client.package])
    pins = (HERE / PINS[client.run]).read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(client.package)}(?:\[.*\])?==(\S+)", pins, re.MULTILINE)
    assert match is not None, client
    return match[1]


def make_table() -> str:
    """The Markdown table. Raises AssertionError for a client without tests."""
    runs = {run: Outcomes(run) for run in ("newest", "older", "node")}
    columns = [*FEATURES.values(), *SAVED.values()]
    lines = [
        "| client | version | " + " | ".join(columns) + " |",
        "|---|---|" + ":-:|" * len(columns),
    ]
    for client in CLIENTS:
        outcomes = runs[client.run]
        cells = []
        for feature in FEATURES:
            passed = outcomes.passed.get((client.suite, feature))
            cells.append("" if passed is None else "✓" if all(passed) else "✗")
        assert any(cells), f"{client.title} was not tested"
        cells += [outcomes.saved.get((client.suite, name), "") for name in SAVED]
        version = version_of(client) if client.package else ""
        lines.append(f"| {client.title} | {version} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def check(table: str, text: str) -> bool:
    """Whether a document has this table between the markers, or no markers."""
    return BEGIN not in text or text.partition(BEGIN)[2].partition(END)[0] == table


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with README.md's")
    arguments = parser.parse_args()
    table = make_table()
    sys.stdout.write(table)
    if arguments.check and not check(table, (ROOT / "README.md").read_text(encoding="utf-8")):
        sys.stderr.write(
            "README.md has another table between its markers; replace it with this one.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
