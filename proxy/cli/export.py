"""Lines of exported requests, as JSON or CSV."""

import csv
import io
from typing import Any

import msgspec

from proxy.plain_text import spreadsheet_cell


def write_json(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return msgspec.json.encode(row) + b"\n"


class CsvLines:
    """Formats rows as CSV (RFC 4180). The first call adds the header."""

    def __init__(self) -> None:
        self._columns: list[str] | None = None

    def __call__(self, row: dict[str, Any]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text)
        if self._columns is None:
            self._columns = list(row)
            writer.writerow(self._columns)
        writer.writerow([_cell(row.get(name)) for name in self._columns])
        return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, (list, dict)):
        return spreadsheet_cell(msgspec.json.encode(value).decode())
    return spreadsheet_cell(value) if isinstance(value, str) else value
