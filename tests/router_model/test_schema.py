"""Values are rejected only by keywords that say so without doubt."""

from typing import Any

import pytest

from router_model import schema as module
from router_model.schema import fits

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "role": {"enum": ["admin", "user", None]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "address": {"$ref": "#/$defs/address~1home"},
        "version": {"const": 1},
        "score": {"type": ["number", "null"]},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"address/home": {"type": "object", "required": ["city"]}},
}

FIT: list[Any] = [
    {"name": "Ada"},
    {"name": "Ada", "age": 36.0, "role": None, "tags": [], "score": None, "version": 1.0},
    {"name": "Ada", "age": -1},  # `minimum` is not read
    {"name": "Ada", "friend": {"name": "Mary", "friend": None}},
    {"name": "Ada", "address": {"city": "London", "zip": "1"}},
]
DO_NOT_FIT: list[Any] = [
    [],
    None,
    {},
    {"name": 1},
    {"name": "Ada", "age": "36"},
    {"name": "Ada", "age": True},
    {"name": "Ada", "age": 1.5},
    {"name": "Ada", "role": "guest"},
    {"name": "Ada", "tags": ["a", 1]},
    {"name": "Ada", "friend": {"age": 1}},
    {"name": "Ada", "address": {"zip": "1"}},
    {"name": "Ada", "version": True},
    {"name": "Ada", "score": "1"},
    {"name": "Ada", "surname": "Lovelace"},
]
UNREADABLE: list[dict[str, Any]] = [
    {"type": 5},
    {"type": "any"},
    {"type": ["string", []]},
    {"properties": []},
    {"required": "name"},
    {"enum": "a"},
    {"anyOf": {}},
    {"$ref": "https://example.com/schema"},
    {"$ref": "#/$defs/missing"},
    {"$ref": 5},
    {"not": {}},
    {"additionalProperties": False, "patternProperties": {".*": {}}},
    {"properties": {"a": 7}},
    {"nullable": True, "type": "object"},
]


@pytest.mark.parametrize("value", FIT)
def test_values_that_fit(value: Any) -> None:
    assert fits(value, PERSON)


@pytest.mark.parametrize("value", DO_NOT_FIT)
def test_values_that_do_not_fit(value: Any) -> None:
    assert not fits(value, PERSON)


@pytest.mark.parametrize("schema", UNREADABLE)
def test_what_is_not_read_is_fulfilled(schema: dict[str, Any]) -> None:
    assert fits({"a": 1}, schema)
    assert fits(None, {"nullable": True, "type": "object"})
    assert not fits({"a": 1}, {"properties": {"a": False}})
    assert fits([1, "a"], {"items": [{"type": "string"}]})
    assert fits([1, "a"], {"prefixItems": [{}], "items": {"type": "string"}})


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    real = module._Validation.fits

    def counted(self: Any, *args: Any) -> bool:
        nonlocal steps
        steps += 1
        return real(self, *args)

    monkeypatch.setattr(module._Validation, "fits", counted)
    itself = {"anyOf": [{"$ref": "#"}] * 50}
    assert fits(1, itself)
    assert fits(["x"] * 500_000, {"items": {"type": "string"}})
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert fits(deep, {"items": {"$ref": "#"}, "type": "array"})
    # Each branch fails only after those within it.
    assert not fits({}, {"anyOf": [{"$ref": "#"}] * 9, "required": ["a"]})
    assert steps < 5 * module._MAX_STEPS
