"""Check a running demo with the official OpenAI client: both tiers, whole and streamed.

    make demo &
    python tests/tools/demo_check.py --wait 600 --pid $!

Exits 0 when all checks pass, 1 with the first failure. It does not use pytest, because it checks a
server that is already running, as in `.ci/run`.
"""

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import httpx2
import openai

STAND_INS = {"local": "smollm2-135m", "cloud": "smollm2-135m-cloud-stand-in"}
ROWS_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8080")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for the demo")
    parser.add_argument("--pid", type=int, help="stop waiting when this process ends")
    parser.add_argument("--database", type=Path, default=Path("data/demo.db"))
    options = parser.parse_args()
    try:
        parts = wait_until_ready(options.base_url, seconds=options.wait, pid=options.pid)
        has_router = parts["router_model"] != "missing"
        before = count_rows(options.database)
        sent = ask_all(options.base_url, has_router=has_router)
        check_rows(options.database, expected=before + sent)
        check_metrics(options.base_url)
    except AssertionError as error:
        sys.exit(f"demo check failed: {error}")
    print(f"demo check: {sent} requests answered, recorded and counted")


def wait_until_ready(base_url: str, *, seconds: float, pid: int | None) -> dict[str, object]:
    """Poll until the demo is up with both stand-ins; return the parts of /ready."""
    deadline = time.monotonic() + seconds
    while not is_alive(base_url):
        assert time.monotonic() < deadline, f"{base_url} did not come up in {seconds:g} s"
        assert pid is None or is_running(pid), "the demo ended during its start"
        time.sleep(0.5)
    ready = httpx2.get(f"{base_url}/ready", timeout=10)
    assert ready.status_code == 200, f"/ready answered {ready.status_code}: {ready.text}"
    parts: dict[str, object] = ready.json()["parts"]
    tiers = ready.json()["parts"]["upstreams"]
    shown = {target: (tier["status"], tier["model"]) for target, tier in tiers.items()}
    assert shown == {target: ("up", name) for target, name in STAND_INS.items()}, f"tiers: {tiers}"
    return parts


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_alive(base_url: str) -> bool:
    try:
        return httpx2.get(f"{base_url}/health", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def ask_all(base_url: str, *, has_router: bool) -> int:
    """Send requests in all forms, whole and streamed; return their number."""
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0, timeout=300)
    sent = 0
    for model in ("local", "cloud", "auto", "gpt-4o-mini", STAND_INS["local"]):
        for stream in (False, True):
            started = time.monotonic()
            text, headers = ask(client, model, stream=stream)
            case = f"model={model} stream={stream}"
            assert text.strip(), f"{case}: the answer is empty"
            check_headers(headers, model, case=case, stream=stream, has_router=has_router)
            sent += 1
            print(
                f"{case}: {headers['x-router-target']} ({headers['x-router-reason']}), "
                f"{time.monotonic() - started:.1f} s: {text.strip()[:50]!r}",
                flush=True,
            )
    code = None
    try:
        client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "Hi"}])
    except openai.NotFoundError as error:
        code = error.code
    assert code == "model_not_found", "an unknown model was answered"
    return sent + 1


def ask(client: openai.OpenAI, model: str, *, stream: bool) -> tuple[str, Mapping[str, str]]:
    """Send one request; return the text of the answer and the headers."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    response = client.chat.completions.with_raw_response.create(
        model=model, messages=messages, max_tokens=24, stream=stream
    )
    answer = response.parse()
    if not stream:
        return answer.choices[0].message.content or "", response.headers
    pieces = [choice.delta.content or "" for chunk in answer for choice in chunk.choices]
    return "".join(pieces), response.headers


def check_headers(
    headers: Mapping[str, str], model: str, *, case: str, stream: bool, has_router: bool
) -> None:
    """Check that the headers have the expected decision."""
    names = ["x-request-id", "x-router-target", "x-router-model", "x-router-reason"]
    names.append("x-router-decision-ms")
    if not stream:
        names += ["x-router-cost-usd", "x-router-saved-usd"]
    forced = {"local": "local", "cloud": "cloud", STAND_INS["local"]: "local"}.get(model)
    reason = "forced"
    if forced is None:
        names.append("x-router-threshold")
        reason = "score" if has_router else "router_unavailable"
        if has_router:
            names.append("x-router-score")
    absent = [name for name in names if not headers.get(name)]
    assert not absent, f"{case}: no {', '.join(absent)}"
    target = headers["x-router-target"]
    assert target == (forced or target), f"{case}: went to {target}"
    assert headers["x-router-model"] == STAND_INS[target], f"{case}: {headers['x-router-model']}"
    assert headers["x-router-reason"] == reason, f"{case}: {headers['x-router-reason']}"


def count_rows(database: Path) -> int:
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM requests").fetchone()
        return int(count)


def check_rows(database: Path, *, expected: int) -> None:
    """Wait for the rows, which are written after the answers."""
    deadline = time.monotonic() + ROWS_SECONDS
    while (rows := count_rows(database)) < expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert rows == expected, f"{database} has {rows} rows, not {expected}"


def check_metrics(base_url: str) -> None:
    text = httpx2.get(f"{base_url}/metrics", timeout=10).text
    for name in ("router_requests_total", "router_tokens_total", "router_cost_usd_total"):
        assert name in text, f"/metrics has no {name}"


if __name__ == "__main__":
    main()
