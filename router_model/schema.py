"""Whether a JSON value fits a JSON schema, for the keywords that say so without doubt.

Read are `type`, `properties`, `required`, `additionalProperties: false`, `items`, `enum`, `const`,
`anyOf`, `oneOf` (as `anyOf`), and `$ref` within the schema. Other keywords and what is malformed
count as fulfilled: a value that is rejected is wrong, and one that is accepted may be.
"""

from collections.abc import Mapping
from typing import Any, Final

_MAX_DEPTH: Final = 40
_MAX_STEPS: Final = 20_000
_MAX_POINTER: Final = 16

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
    "integer": (int, float),
}


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value fits a schema. What exceeds the limits on work and depth fits."""
    return _Validation(schema).fits(value, schema, _MAX_DEPTH)


class _Validation:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = _MAX_STEPS

    def fits(self, value: object, schema: object, depth: int) -> bool:
        self._steps -= 1
        if depth == 0 or self._steps <= 0 or not isinstance(schema, Mapping):
            return schema is not False
        if "$ref" in schema:
            return self.fits(value, self._target(schema["$ref"]), depth - 1)
        if value is None and schema.get("nullable") is True:
            return True
        return (
            _has_type(value, schema.get("type"))
            and ("const" not in schema or _is_equal(value, schema["const"]))
            and (not isinstance(choices := schema.get("enum"), list) or self._is_in(value, choices))
            and self._fits_any(value, schema.get("anyOf"), depth)
            and self._fits_any(value, schema.get("oneOf"), depth)
            and self._fits_parts(value, schema, depth)
        )

    def _fits_any(self, value: object, schemas: object, depth: int) -> bool:
        return not isinstance(schemas, list) or any(
            self.fits(value, schema, depth - 1) for schema in schemas
        )

    def _is_in(self, value: object, choices: list[object]) -> bool:
        self._steps -= len(choices)
        return any(_is_equal(value, choice) for choice in choices)

    def _fits_parts(self, value: object, schema: Mapping[str, Any], depth: int) -> bool:
        """Whether the properties of an object or the items of a list fit."""
        if isinstance(value, dict):
            properties = schema.get("properties")
            known = properties if isinstance(properties, Mapping) else {}
            required = schema.get("required")
            if isinstance(required, list) and not all(
                name in value for name in required if isinstance(name, str)
            ):
                return False
            is_closed = (
                schema.get("additionalProperties") is False and "patternProperties" not in schema
            )
            if is_closed and not value.keys() <= known.keys():
                return False
            return all(
                self.fits(value[name], part, depth - 1)
                for name, part in known.items()
                if name in value
            )
        if isinstance(value, list) and "items" in schema and "prefixItems" not in schema:
            part = schema["items"]
            # A list of schemas is the old form of prefixItems.
            if isinstance(part, Mapping):
                return all(self.fits(item, part, depth - 1) for item in value[: self._steps])
        return True

    def _target(self, reference: object) -> object:
        """The schema that a local reference names; True, which all values fit, if there is none."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        schema: object = self._root
        for part in reference[1:].split("/", _MAX_POINTER)[1:]:
            if not isinstance(schema, Mapping):
                return True
            schema = schema.get(part.replace("~1", "/").replace("~0", "~"), True)
        return schema


def _has_type(value: object, names: object) -> bool:
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list):
        return True
    if not all(isinstance(name, str) and name in _TYPES for name in names):
        return True
    return any(_is_of_type(value, name) for name in names)


def _is_of_type(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _is_equal(value: object, other: object) -> bool:
    """Equality of JSON values, in which True is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other
