"""Values are rejected only by keywords that say so without doubt."""

from collections.abc import Iterator
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
    {"anyOf": []},
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


@pytest.mark.parametrize(
    ("value", "other", "is_equal"),
    [
        (1, 1.0, True),
        (True, 1, False),
        ([True], [1], False),
        ({"a": [1]}, {"a": [1.0]}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1], [1, 2], False),
        ([], {}, False),
        ("a", "b", False),
        (None, None, True),
        ("é" * 500, "é" * 500, True),
    ],
)
def test_equality_of_json_values(value: Any, other: Any, is_equal: bool) -> None:
    assert fits(value, {"const": other}) is is_equal
    assert fits(value, {"enum": ["z", other]}) is is_equal


def test_a_schema_with_its_own_id_is_not_read() -> None:
    inner = {"$id": "https://example.com/x", "$defs": {"z": {}}, "$ref": "#/$defs/z"}
    assert fits([1], {"items": inner, "$defs": {"z": {"type": "string"}}})
    assert not fits(["a"], {"$id": "https://example.com/y", "items": {"type": "integer"}})
    reference = {"$ref": "#/$defs/x/$defs/y"}
    assert fits(1, {**reference, "$defs": {"x": {"$id": "x", "$defs": {"y": {"type": "string"}}}}})


class Counted(list[Any]):
    """A list that counts what is read of all such lists."""

    read = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            Counted.read += 1
            yield item


def times(schema: dict[str, Any], count: int) -> dict[str, Any]:
    return {"$defs": {"x": schema}, "anyOf": Counted([{"$ref": "#/$defs/x"}] * count)}


LONG = Counted([0] * 5_000)
# Values and schemas that need more steps than there are.
LARGE: dict[str, tuple[Any, dict[str, Any]]] = {
    "types": (1, times({"type": Counted(["null"] * 20_000)}, 4_000)),
    "types of items": (
        Counted([1] * 15_000), {"items": {"type": Counted(["null"] * 4_000 + ["integer"])}},
    ),
    "required": (Counted([{"a": 1}] * 6_000), {"items": {"required": Counted(["a"] * 5_000)}}),
    "required of references": ({"a": 1}, times(
        {"required": Counted(["a"] * 2_000), "properties": {"a": False}}, 1_500
    )),
    "choices": (1, times({"enum": Counted([0] * 5_000)}, 4_000)),
    "long choices": (LONG, times({"enum": Counted([Counted([*LONG[1:], 1])] * 50)}, 400)),
    "constants": ({"a": LONG}, times({"const": {"a": Counted([*LONG[1:], 1])}}, 4_000)),
    "alternatives": (1, times({"oneOf": Counted([False] * 5_000)}, 4_000)),
    "items": (Counted([1] * 100_000), {"items": {"type": "integer"}}),
    "itself": (1, {"anyOf": Counted([{"$ref": "#"}] * 50)}),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_work_is_bounded(name: str) -> None:
    value, schema = LARGE[name]
    Counted.read = 0
    assert fits(value, schema)
    assert 0 < Counted.read < 3 * module._MAX_STEPS


def test_the_length_of_names_and_texts_counts() -> None:
    text = "x" * 1_000_000
    assert fits(text, {"enum": [f"{text[1:]}y"] * 100})
    assert fits(1, {"anyOf": [{"$ref": f"#/{text}"}] * 100 + [False]})
    properties = {str(i): i for i in range(5_000)}
    never = {"properties": {name: {} for name in properties}, "oneOf": [False]}
    assert not fits(properties, times(never, 1_000))
    assert fits(float("inf"), {"type": "integer"})
    closed = {**never, "additionalProperties": False}
    assert fits(properties, times(closed, 1_000))


def test_deep_values_and_schemas() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert fits(deep, {"items": {"$ref": "#"}, "type": "array"})
    for _ in range(100_000):
        deep = [deep]
    assert fits(deep, {"const": [deep[0]]})
    # An object's own names come before the schemas that it refers to.
    assert not fits({}, {"anyOf": [{"$ref": "#"}] * 9, "required": ["a"]})
