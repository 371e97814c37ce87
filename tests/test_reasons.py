"""Every routing reason is explained in every list of reasons."""

import json
import re
from pathlib import Path

import pytest

from proxy.evaluation import explain
from proxy.record import Reason
from proxy.web.openapi import document
from router_model.answer_checks import Check

ROOT = Path(__file__).parents[1]


def in_the_api_documentation() -> set[str]:
    """The table of reasons in the API documentation."""
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Reasons\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))


def in_explanations() -> set[str]:
    """`score` is explained by its numbers, the others by a sentence."""
    return {"score", *explain._REASONS}


def on_the_pages() -> set[str]:
    text = (ROOT / "proxy/web/ui/decision.js").read_text(encoding="utf-8")
    (names,) = re.findall(r"REASONS = \{(.*?)\n\}", text, re.DOTALL)
    return {"score", *re.findall(r"^\s*([a-z_]+):", names, re.M)} - {"shadow"}  # the former name


def in_openapi() -> set[str]:
    parameters = json.loads(document())["paths"]["/api/requests"]["get"]["parameters"]
    (parameter,) = [item for item in parameters if item["name"] == "reason"]
    return set(parameter["schema"]["enum"]) - {"shadow"}  # the former name of exploration


def test_every_check_is_explained() -> None:
    assert list(explain._CHECKS) == list(Check)


@pytest.mark.parametrize(
    "place", [in_the_api_documentation, in_explanations, on_the_pages, in_openapi]
)
def test_every_reason_is_explained(place: object) -> None:
    assert callable(place)
    assert place() == set(Reason)
