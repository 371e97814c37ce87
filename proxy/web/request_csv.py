"""Requests as CSV (RFC 4180), for spreadsheets."""

import csv
import datetime as dt
import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.plain_text import spreadsheet_cell

# The columns of a row, in order. `time` is `created_at` in ISO 8601 (UTC).
CSV_COLUMNS: Final = (
    "id", "time", "endpoint", "requested_model", "target", "model", "reason", "score", "merit",
    "threshold", "status", "ending", "error_code", "streamed", "ttft_ms", "duration_ms",
    "input_tokens", "output_tokens", "cost_usd", "saved_usd", "category", "fallback_from",
    "second_look", "prompt",
)  # fmt: skip
MAX_CSV_ROWS: Final = 100_000


def csv_header() -> bytes:
    """The first line. The byte order mark makes Excel read UTF-8."""
    return b"\xef\xbb\xbf" + _lines([CSV_COLUMNS])


def csv_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The lines of some requests."""
    return _lines([_cell(name, row) for name in CSV_COLUMNS] for row in rows)


def _cell(name: str, row: Mapping[str, Any]) -> Any:
    if name == "time":
        return dt.datetime.fromtimestamp(row["created_at"], dt.UTC).isoformat()
    value = row[name]
    return spreadsheet_cell(value) if isinstance(value, str) else value


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
