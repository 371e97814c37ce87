"""What schemathesis must not send: bodies that JSON Schema cannot exclude."""

from typing import Any

import schemathesis


@schemathesis.hook
def filter_body(_context: schemathesis.HookContext, body: object) -> bool:
    """Leave out bodies with a field in capitals: of known fields they are refused as misspelt."""
    return not _has_capitals(body)


def _has_capitals(value: Any) -> bool:
    if isinstance(value, dict):
        return any(name != name.lower() or _has_capitals(item) for name, item in value.items())
    return isinstance(value, list) and any(map(_has_capitals, value))
