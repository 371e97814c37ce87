"""Logging as text or JSON: at most one line per request, with its id and without its texts."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import logs
from proxy.config import LoggingConfig
from proxy.logs import log_request, wants_trace
from proxy.record import CallRecord, Ending, Reason, Target


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.PACKAGES}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logs.request_id.set("")  # else lines and errors of later tests in this process have the id


def finished_record(ending: Ending = Ending.OK, **values: Any) -> CallRecord:
    record = CallRecord("chat.completions")
    defaults = {
        "requested_model": "auto",
        "target": Target.LOCAL,
        "model": "phi3:latest",
        "reason": Reason.SCORE,
        "score": 0.8312,
        "threshold": 0.775,
        "status": 200,
        "ttft_ms": 120.4,
        "input_tokens": 12,
        "output_tokens": 40,
        "cost_usd": 0.0,
        "saved_usd": 0.000026,
        "turns": [("user", "a secret question")],
        "response": "a secret answer",
    }
    for name, value in (defaults | values).items():
        setattr(record, name, value)
    record.finish(ending)
    record.duration_ms = 812.4
    logs.request_id.set(record.id)
    return record


def test_text_format_is_one_line_per_request(capsys: pytest.CaptureFixture[str]) -> None:
    config = LoggingConfig(format="text", requests="all")
    logs.set_up(config)
    record = finished_record()
    log_request(record, config)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "INFO chat.completions auto → local phi3:latest (score 0.831 of 0.775) 200 ok "
        f"ttft 120 ms 812 ms 12+40 tokens $0.000000 saved $0.000026 [{record.id}]"
    )


def test_text_format_names_a_merit_that_is_not_the_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = LoggingConfig(format="text", requests="all")
    logs.set_up(config)
    for merit, shown in ((0.9, "score, merit 0.900"), (0.8312, "score 0.831")):
        log_request(finished_record(merit=merit), config)
        assert f"phi3:latest ({shown} of 0.775) 200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (
            {
                "target": Target.CLOUD,
                "reason": Reason.ESCALATED,
                "fallback_from": Target.LOCAL,
                "fallback_why": "cut_off",
                "failed_check": "cut_off",
            },
            "200 ok after the local answer failed a check: cut_off ttft",
        ),
        (
            {"fallback_from": Target.CLOUD, "fallback_why": "5xx", "failed_check": "empty"},
            "200 ok after cloud failed: 5xx although it failed a check: empty ttft",
        ),
        ({"failed_check": "empty"}, "200 ok although it failed a check: empty ttft"),
    ],
    ids=["escalated", "kept", "recorded"],
)
def test_text_format_names_a_failed_check(
    capsys: pytest.CaptureFixture[str], values: dict[str, Any], shown: str
) -> None:
    config = LoggingConfig(format="text", requests="all")
    logs.set_up(config)
    log_request(finished_record(**values), config)
    assert shown in capsys.readouterr().err


def test_json_format_is_one_object_per_request(capsys: pytest.CaptureFixture[str]) -> None:
    config = LoggingConfig(format="json", requests="all")
    logs.set_up(config)
    record = finished_record(Ending.TIMEOUT, fallback_from=Target.CLOUD, fallback_why="5xx")
    record.failed_check, record.discarded_tokens = "cut_off", 340
    log_request(record, config)
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry["message"] == "request"
    assert entry["request_id"] == record.id
    for name in (
        *("target", "reason", "ending", "score", "merit", "cost_usd", "duration_ms"),
        *("fallback_from", "fallback_why", "failed_check", "discarded_tokens"),
    ):
        assert entry[name] == getattr(record, name)
    assert "secret" not in line


@pytest.mark.parametrize(
    ("requests", "ending", "lines"),
    [
        ("none", Ending.OK, 0),
        ("none", Ending.TIMEOUT, 0),
        ("failed", Ending.OK, 0),
        ("failed", Ending.CLIENT_GONE, 0),
        ("failed", Ending.REJECTED, 1),
        ("all", Ending.OK, 1),
    ],
)
def test_only_the_selected_requests_are_logged(
    capsys: pytest.CaptureFixture[str], requests: Any, ending: Ending, lines: int
) -> None:
    config = LoggingConfig(format="text", requests=requests)
    logs.set_up(config)
    log_request(finished_record(ending), config)
    assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.parametrize("kind", ["text", "json"])
def test_other_lines_include_the_request_id(capsys: pytest.CaptureFixture[str], kind: Any) -> None:
    logs.set_up(LoggingConfig(format=kind))
    record = finished_record()
    logging.getLogger("proxy.upstream.upstream").warning("%s broke off", "local")
    logs.request_id.set("")
    logging.getLogger("proxy.server.app").info("reloaded")
    logging.getLogger("proxy.server.app").debug("not at this level")
    logging.getLogger("aiohttp").info("ignored")
    first, second = capsys.readouterr().err.splitlines()
    assert "local broke off" in first
    assert record.id in first
    assert "req_" not in second


def test_json_error_includes_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LoggingConfig(format="json"))
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("proxy.gateway.gateway").exception("request failed")
    entry = json.loads(capsys.readouterr().err)
    assert entry["level"] == "error"
    assert entry["exception"].endswith("ValueError: broken")


# Line breaks, an escape sequence, C1's own, bidirectional controls, and other invisible characters.
HOSTILE = (
    "gpt\n2026-01-01 00:00:00,000 ERROR forged\r"
    "\x1b[2J\x9b31m\x85\u2028\u202e\u2066\u061c\u200b\x7f\0"
)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_text_of_clients_stays_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "1000")
    config = LoggingConfig(format="auto" if is_terminal else "text", requests="all")
    logs.set_up(config)
    record = finished_record(requested_model=HOSTILE, error_code=HOSTILE, trace=[(1.0, HOSTILE)])
    log_request(record, config)
    logging.getLogger("proxy.upstream.upstream").warning("%s broke off", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("proxy.gateway.gateway").exception("failed")
    text = capsys.readouterr().err
    lines = text.split("\n")[:-1]
    assert all(line.replace("\x1b", "").isprintable() for line in lines)
    assert "\x1b[2J" not in text
    assert not [line for line in lines if line.startswith("2026-01-01")]
    if not is_terminal:
        assert all(line.isprintable() for line in lines)
        assert len([line for line in lines if not line.startswith("  ")]) == 4
        assert (
            "gpt\\n2026-01-01 00:00:00,000 ERROR forged\\r\\x1b[2J\\x9b31m\\x85\\u2028\\u202e"
            in lines[0]
        )


def test_json_lines_are_printable_and_keep_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    config = LoggingConfig(format="json", requests="all")
    logs.set_up(config)
    model = HOSTILE + "\U000e0041é漢"
    log_request(finished_record(requested_model=model), config)
    (line, rest) = capsys.readouterr().err.split("\n")
    assert rest == ""
    assert line.isprintable()
    assert "é漢" in line
    assert json.loads(line)["requested_model"] == model


def test_trace_is_logged_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    config = LoggingConfig(format="json")
    logs.set_up(config)
    record = finished_record()
    record.step("not requested")
    log_request(record, config)
    assert capsys.readouterr().err == ""
    record.trace = []
    record.step("score 0.8312 of 0.7750: local")
    log_request(record, config)
    (step,) = json.loads(capsys.readouterr().err)["steps"]
    assert step["step"] == "score 0.8312 of 0.7750: local"
    header = dict(record.router_headers())[b"x-router-trace"]
    assert header.endswith(b"score 0.8312 of 0.7750: local")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"x-router-trace", b"true")], True),
        ([(b"x-router-trace", b"True")], True),
        ([(b"x-router-trace", b"false")], False),
        ([(b"x-router-target", b"true")], False),
        ([], False),
    ],
)
def test_trace_header_requests_the_trace(
    headers: list[tuple[bytes, bytes]], expected: bool
) -> None:
    assert wants_trace(headers) == expected
