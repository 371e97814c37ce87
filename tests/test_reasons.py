"""Every reason of a decision is explained in every place that lists reasons."""

import json
import re
from pathlib import Path

import pytest

from proxy.evaluation import explain
from proxy.record import Reason
from proxy.web.openapi import document

ROOT = Path(__file__).parents[1]


def in_the_header_table() -> set[str]:
    """The row of `x-router-reason` in the documentation."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))
    ]
    rows = [
        row for text in texts for row in re.findall(r"^\| `x-router-reason` \|(.*)$", text, re.M)
    ]
    assert len(rows) == 1
    return set(re.findall(r"`([a-z_]+)`", rows[0]))


def in_explanations() -> set[str]:
    """`score` is explained by its numbers, the others by a sentence."""
    return {"score", *explain._REASONS}


def on_the_pages() -> set[str]:
    text = (ROOT / "proxy/web/ui/decision.js").read_text(encoding="utf-8")
    (names,) = re.findall(r"REASONS = \{(.*?)\n\}", text, re.DOTALL)
    return {"score", *re.findall(r"^\s*([a-z_]+):", names, re.M)}


def in_openapi() -> set[str]:
    parameters = json.loads(document())["paths"]["/api/requests"]["get"]["parameters"]
    (found,) = [item for item in parameters if item["name"] == "reason"]
    return set(found["schema"]["enum"])


@pytest.mark.parametrize("place", [in_the_header_table, in_explanations, on_the_pages, in_openapi])
def test_every_reason_is_explained(place: object) -> None:
    assert callable(place)
    assert place() == set(Reason)
