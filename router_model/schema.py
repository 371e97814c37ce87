"""Whether a JSON value fits a JSON schema, for the keywords that say so without doubt.

Read are `type`, `properties`, `required`, `additionalProperties: false`, `items`, `enum`, `const`,
`anyOf`, `oneOf` (as `anyOf`), and `$ref` within the schema. Other keywords and what is malformed
count as fulfilled: a value that is rejected is wrong, and one that is accepted may be.

The work is bounded by a number of steps. A value for which they do not suffice fits.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

_MAX_DEPTH: Final = 40
_MAX_STEPS: Final = 20_000
_MAX_POINTER: Final = 16
_CHARS_PER_STEP: Final = 64

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
    try:
        return _Validation(schema).fits(value, schema, _MAX_DEPTH)
    except (_OutOfSteps, RecursionError):
        return True


class _OutOfSteps(Exception):
    pass


class _Validation:
    """One comparison. Each name, alternative and value that it looks at is a step."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = _MAX_STEPS

    def _take(self, steps: int) -> None:
        """Count steps before they are made. Raises _OutOfSteps."""
        self._steps -= steps
        if self._steps < 0:
            raise _OutOfSteps

    def fits(self, value: object, schema: object, depth: int) -> bool:
        self._take(1)
        if depth == 0 or not isinstance(schema, Mapping):
            return schema is not False
        if "$id" in schema and schema is not self._root:
            return True  # its references start from itself
        if "$ref" in schema:
            return self.fits(value, self._target(schema["$ref"]), depth - 1)
        if value is None and schema.get("nullable") is True:
            return True
        # What looks into other schemas comes last.
        return (
            self._has_type(value, schema.get("type"))
            and ("const" not in schema or self._is_equal(value, schema["const"]))
            and self._is_in(value, schema.get("enum"))
            and self._has_names(value, schema)
            and self._fits_any(value, schema.get("anyOf"), depth)
            and self._fits_any(value, schema.get("oneOf"), depth)
            and self._fits_parts(value, schema, depth)
        )

    def _has_type(self, value: object, names: object) -> bool:
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list):
            return True
        self._take(len(names))
        if not all(isinstance(name, str) and name in _TYPES for name in names):
            return True
        return any(_is_of_type(value, name) for name in names)

    def _is_in(self, value: object, choices: object) -> bool:
        return not isinstance(choices, list) or any(
            self._is_equal(value, choice) for choice in choices
        )

    def _is_equal(self, value: object, other: object) -> bool:
        """Equality of JSON values, in which True is not 1."""
        self._take(1)
        if isinstance(value, bool) != isinstance(other, bool):
            return False
        if isinstance(value, str) and isinstance(other, str) and len(value) == len(other):
            self._take(len(value) // _CHARS_PER_STEP)
        elif isinstance(value, list) and isinstance(other, list):
            return len(value) == len(other) and all(map(self._is_equal, value, other))
        elif isinstance(value, dict) and isinstance(other, dict):
            return len(value) == len(other) and all(
                name in other and self._is_equal(item, other[name]) for name, item in value.items()
            )
        return value == other

    def _has_names(self, value: object, schema: Mapping[str, Any]) -> bool:
        """Whether an object has its required properties, and no others where these are closed."""
        if not isinstance(value, dict):
            return True
        required = schema.get("required")
        if isinstance(required, list):
            self._take(len(required))
            if not all(name in value for name in required if isinstance(name, str)):
                return False
        if schema.get("additionalProperties") is not False or "patternProperties" in schema:
            return True
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        self._take(len(value))
        return value.keys() <= known.keys()

    def _fits_any(self, value: object, schemas: object, depth: int) -> bool:
        if not isinstance(schemas, list) or not schemas:
            return True
        return any(self.fits(value, schema, depth - 1) for schema in schemas)

    def _fits_parts(self, value: object, schema: Mapping[str, Any], depth: int) -> bool:
        """Whether the properties of an object or the items of a list fit."""
        if isinstance(value, dict) and isinstance(schema.get("properties"), Mapping):
            known = schema["properties"]
            self._take(len(value))
            return all(
                self.fits(item, known[name], depth - 1)
                for name, item in value.items()
                if name in known
            )
        if isinstance(value, list) and "prefixItems" not in schema:
            part = schema.get("items")
            # A list of schemas is the old form of prefixItems.
            if isinstance(part, Mapping):
                return all(self.fits(item, part, depth - 1) for item in value)
        return True

    def _target(self, reference: object) -> object:
        """The schema that a local reference names; True, which all values fit, if there is none."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        self._take(_MAX_POINTER + len(reference) // _CHARS_PER_STEP)
        schema: object = self._root
        for part in reference[1:].split("/", _MAX_POINTER)[1:]:
            if not isinstance(schema, Mapping) or ("$id" in schema and schema is not self._root):
                return True
            schema = schema.get(part.replace("~1", "/").replace("~0", "~"), True)
        return schema


def _is_of_type(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer() or math.isinf(value)  # 1e400 is read as infinity
    return isinstance(value, _TYPES[name])
