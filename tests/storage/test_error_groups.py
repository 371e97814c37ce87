"""Errors grouped by cause, and the bodies of requests as they are stored."""

import time
from pathlib import Path

import peewee
import pytest

from proxy.record import FAILED, Ending, Target
from proxy.secret import Redactor
from proxy.storage.bodies import MAX_BODY_CHARS, shorten_body
from proxy.storage.database import open_database
from proxy.storage.error_groups import normalize
from proxy.storage.request_log import RequestLog
from stored import NOW, config_of, fill, finished

pytest_plugins = ["databases"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("needs 8192 tokens, has 9,120", "needs 1 tokens, has 3.5"),
        ("organization org-a1b2c3d4e5 is over", "organization org-ffff00001111 is over"),
        ("no model 'phi3:latest' here", "no model 'llama' here"),
        ("req_0193aabbccddeeff0011 failed", "req_0193aabbccddeeff9999 failed"),
        ("id 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "id 00000000-4f89-11d3-9a0c-0305e82c3301"),
        ("in the\nmiddle", "in the middle"),
    ],
)
def test_messages_that_differ_by_request_are_one_cause(one: str, other: str) -> None:
    assert normalize(one) == normalize(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Busy. (status 503)", "Busy. (status 429)"),
        ("gpt-4o is down", "gpt-5 is down"),
        ("Out of memory", "Out of disk"),
    ],
)
def test_other_causes_are_kept_apart(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


def test_errors_are_grouped_with_refusals_apart(url: str) -> None:
    failed = {"target": Target.CLOUD, "ending": Ending.UPSTREAM_ERROR, "error_code": "upstream_5xx"}
    records = [
        *(
            finished(created_at=NOW - n, error=f"Limit {n}. (status 503)", **failed)
            for n in range(3)
        ),
        finished(created_at=NOW - 9, error="Lost. (status 500)", **failed),
        finished(created_at=NOW - 1, ending=Ending.TIMEOUT, target=Target.CLOUD),
        finished(created_at=NOW - 2, ending=Ending.CLIENT_GONE),
        finished(created_at=NOW - 3, ending=Ending.REJECTED, error="No.", error_code="no"),
        finished(created_at=NOW - 3),
        finished(created_at=NOW - 1_000, error="Old.", **failed),
    ]
    fill(url, records)
    with RequestLog(open_database(config_of(url), read_only=True)) as log:
        errors = log.errors(NOW - 100)
        assert [(group.message, group.requests) for group in errors.failures] == [
            ("Limit #. (status 503)", 3),
            (None, 1),
            ("Lost. (status 500)", 1),
        ]
        first = errors.failures[0]
        assert (first.first_at, first.last_at, first.example) == (NOW - 2, NOW, records[0].id)
        assert [(group.code, group.requests) for group in errors.refusals] == [("no", 1)]
        assert errors.failures_since is None
        # A limit is told, and refusals do not use up that of failures.
        limited = log.errors(NOW - 100, limit=1)
        assert (limited.failures[0].example, limited.failures_since) == (records[0].id, NOW)
        assert limited.refusals_since == NOW - 3


def test_errors_are_found_by_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/router.db"
    fill(url, [])
    database = open_database(config_of(url), read_only=True)
    asked: list[tuple[str, object]] = []
    real = peewee.SqliteDatabase.execute_sql

    def spy(self: peewee.Database, sql: str, params: object = None) -> object:
        asked.append((sql, params))
        return real(self, sql, params)

    monkeypatch.setattr(peewee.SqliteDatabase, "execute_sql", spy)
    with RequestLog(database) as log:
        log.errors(time.time() - 60)
        queries = [item for item in asked if item[0].startswith("SELECT")]
        assert len(queries) == len(FAILED) + 1  # and refusals
        for sql, params in queries:
            plan = list(real(database, f"EXPLAIN QUERY PLAN {sql}", params))
            assert len(plan) == 1, plan  # no sorting
            assert "request_failed (ending=? AND created_at>?)" in plan[0][3]


def test_a_body_is_stored_short_and_without_credentials() -> None:
    assert shorten_body(None, None) is None
    assert shorten_body(b"", None) is None
    data = "QUJD" * 100
    shortened = shorten_body(f'{{"a": "{data}==", "b": 1}}'.encode(), None)
    assert shortened == '{"a": "[402 characters of base64]", "b": 1}'
    escaped = data.replace("Q", "\\\\/")
    assert "base64]" in (shorten_body(escaped.encode(), None) or "")
    assert len(shorten_body(b"word " * 99_999, None) or "") == MAX_BODY_CHARS
    redact = Redactor(["a-key-of-ours"])
    cut = shorten_body(b"word " * 13_105 + b"a-key-of-ours, and more", redact)
    assert cut is not None
    assert len(cut) == MAX_BODY_CHARS
    assert "a-k" not in cut
    assert shorten_body(b"\xff a-key-of-ours", redact) == "\N{REPLACEMENT CHARACTER} [redacted]"


@pytest.mark.parametrize("text", ["a" * 255 + "-" + "a" * 255, "ab " * 80_000, "a" * 2**18])
def test_shortening_takes_linear_time(text: str) -> None:
    """A pattern that is tried at every place would take minutes."""
    assert shorten_body(text.encode(), Redactor(["key"])) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Incorrect API key provided: sk-abcd****wxyz.", "Incorrect API key provided: [redacted]"),
        ("the key hlr-0Snfwyf_9VUC-M6ak of a user", "the key [redacted] of a user"),
        ("authorization: Bearer abc.def-123", "authorization: Bearer [redacted]"),
        ('{"api_key": "hidden"}', '{"api_key": "[redacted]"}'),
        ('{\\"x-api-key\\": \\"hidden\\"}', '{\\"x-api-key\\": \\"[redacted]\\"}'),
        ("https://me:secret@host/path", "https://[redacted]@host/path"),
        ("the word abc9 and xabc9x", "the word [redacted] and xabc9x"),
        ("risk-free basic facts about bearers", "risk-free basic facts about bearers"),
    ],
)
def test_credentials_are_redacted(text: str, expected: str) -> None:
    assert Redactor(["abc9", "longer-key"])(text) == expected
