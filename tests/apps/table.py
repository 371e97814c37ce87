"""The table of applications, from the outcomes of their tests.

    make test-apps                               # runs the tests and writes the outcomes
    .venv/bin/python tests/apps/table.py         # prints the table
    … table.py --check                           # compares it with the one in docs/clients.md

The id or file of a test is the application, and its first word is the feature. A feature works when
all of its tests passed. Versions are the pinned ones.
"""

import argparse
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
OUTCOMES: Final = Path(os.environ.get("APPS") or ROOT / ".venv-apps") / "outcomes.xml"
GUIDE: Final = ROOT / "docs/clients.md"
BEGIN, END = "<!-- applications -->\n", "<!-- /applications -->"

FEATURES: Final = ("chat", "stream", "tools", "cancel")
LOCAL_MODELS: Final = {"phi3:latest": "`phi3`", "qwen3:8b": "`qwen3:8b`"}


class Application(NamedTuple):
    """A row: the heading of its section, its package, and the name of its tests."""

    heading: str
    package: str
    suite: str


APPLICATIONS: Final = (
    Application("Open WebUI", "open-webui", "open_webui"),
    Application("Codex", "@openai/codex", "codex"),
    Application("opencode", "opencode-ai", "opencode"),
    Application("Qwen Code", "@qwen-code/qwen-code", "qwen_code"),
    Application("Continue", "@continuedev/cli", "continue"),
    Application("aider", "aider-chat", "aider"),
    Application("promptfoo", "promptfoo", "promptfoo"),
    Application("CrewAI", "crewai", "crewai"),
)


def versions() -> dict[str, str]:
    """The pinned versions by package."""
    pins = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("*.in"))
    found = dict(re.findall(r"^([\w-]+)==(\S+)", pins, re.MULTILINE))
    for path in HERE.glob("*/package.json"):
        found |= json.loads(path.read_text(encoding="utf-8"))["dependencies"]
    return found


class Outcomes:
    """Results of tests by (suite, feature), and what was saved by (suite, variant, model)."""

    def __init__(self, path: Path) -> None:
        self.results: dict[tuple[str, str], set[str]] = {}
        self.saved: dict[tuple[str, str, str], str] = {}
        for case in ET.parse(path).getroot().iter("testcase"):
            feature, _, parameters = case.get("name", "").removeprefix("test_").partition("[")
            suite = case.get("classname", "").removeprefix("test_")
            if suite == "commands":
                suite = next(
                    name.suite
                    for name in APPLICATIONS
                    if name.suite in re.split(r"[-\]]", parameters)
                )
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            self.results.setdefault((suite, feature), set()).update(kinds or {"passed"})
            for item in case.iter("property"):
                variant, _, model = item.get("name", "").partition(" ")
                self.saved[suite, variant, model] = item.get("value", "")


def make_table(outcomes: Outcomes) -> str:
    """The Markdown table; a dash where nothing was measured."""
    heads = ["application", "version", *FEATURES]
    heads += [f"{model}: connected" for model in LOCAL_MODELS.values()]
    heads += [f"{model}: all settings" for model in LOCAL_MODELS.values()]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + ":-:|" * (len(heads) - 2)]
    pinned = versions()
    for row in APPLICATIONS:
        cells = [f"[{row.heading}](#{row.heading.lower().replace(' ', '-')})", pinned[row.package]]
        for feature in FEATURES:
            results = outcomes.results.get((row.suite, feature), set()) - {"skipped"}
            cells.append("" if not results else "✓" if results == {"passed"} else "✗")
        for variant in ("plain", "shown"):
            for model in LOCAL_MODELS:
                saved = outcomes.saved.get((row.suite, variant, model))
                if saved is None and variant == "plain":  # it has no settings but to connect it
                    saved = outcomes.saved.get((row.suite, "shown", model))
                cells.append(saved or "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with docs/clients.md")
    arguments = parser.parse_args()
    table = make_table(Outcomes(OUTCOMES))
    sys.stdout.write(table)
    text = GUIDE.read_text(encoding="utf-8")
    if arguments.check and text.partition(BEGIN)[2].partition(END)[0] != table:
        sys.stderr.write(f"{GUIDE.name} has another table between its markers; replace it.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
