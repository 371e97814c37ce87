"""Errors grouped by their cause: tier, code, and message without what differs by request."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from proxy.plain_text import one_line

MAX_GROUPED_CHARS: Final = 240  # of a message; the rest does not distinguish causes
MAX_GROUPS: Final = 50
_QUOTED: Final = re.compile(r"\"[^\"]{1,200}\"|'[^']{1,200}'|`[^`]{1,200}`|“[^”]{1,200}”")
_ID: Final = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(?:[a-z]{2,12}[-_])(?=[\w-]*\d)[\w-]{8,}|\b(?=\w*\d)(?=\w*[a-z])[0-9a-f]{8,}\b",
    re.IGNORECASE | re.ASCII,
)
_NUMBER: Final = re.compile(r"(?<![\w.-])\d[\d,.]*(?<=\d)(?=\D|$)", re.ASCII)
# The status of an upstream's answer distinguishes causes, although it is a number.
_STATUS: Final = re.compile(r"\(status (\d{3})")


class ErrorRow(NamedTuple):
    """The columns of a row of `requests` that a group needs."""

    created_at: float
    id: str
    target: str | None
    ending: str
    error_code: str | None
    error: str | None


class ErrorGroup(NamedTuple):
    """Requests that ended with the same error.

    Attributes:
        message: in it, `…` stands for quoted texts, `#` for numbers and `<id>` for ids.
        example: the id of the newest of the requests.
    """

    target: str | None
    ending: str
    code: str | None
    message: str | None
    requests: int
    first_at: float
    last_at: float
    example: str


def group_errors(rows: Iterable[ErrorRow]) -> list[ErrorGroup]:
    """The groups of rows, the largest first; of the many smallest ones only some.

    Args:
        rows: the newest first.
    """
    known: dict[str, str] = {}  # errors repeat themselves word by word
    groups: dict[tuple[str | None, ...], ErrorGroup] = {}
    for at, request_id, target, ending, code, error in rows:
        message = None
        if error is not None and (message := known.get(error)) is None:
            message = known[error] = normalize(error)
        key = target, ending, code, message
        group = groups.get(key)
        if group is None:
            groups[key] = ErrorGroup(target, ending, code, message, 1, at, at, request_id)
        else:
            groups[key] = group._replace(requests=group.requests + 1, first_at=at)
    ordered = sorted(groups.values(), key=lambda group: (-group.requests, -group.last_at))
    return ordered[:MAX_GROUPS]


def normalize(error: str) -> str:
    """A message without its quoted texts, ids and numbers."""
    text = one_line(error)
    status = _STATUS.search(text)
    text = _ID.sub("<id>", _QUOTED.sub("…", text[:MAX_GROUPED_CHARS]))
    text = _NUMBER.sub("#", text)
    return text if status is None else text.replace("(status #", f"(status {status[1]}", 1)
