"""Every endpoint with every kind of missing, wrong, insufficient or foreign credentials."""

from collections.abc import Iterator
from typing import NamedTuple

from attack import (
    ADMIN,
    KEYS,
    OTHER,
    PLAIN,
    Attack,
    AttackRunner,
    Check,
    Seen,
    StartRunner,
    request,
)
from live import CLOUD_KEY

FAMILY = "authorization"
FOREIGN = "http://evil.example"
COOKIE = "hybrid_llm_session"


class Door(NamedTuple):
    method: str
    path: str
    body: bytes = b""
    admin: bool = False  # whether it needs an admin key


CHAT_BODY = b'{"model":"local","messages":[{"role":"user","content":"Hi"}]}'
CHOICE_BODY = b'{"request_id":"req_1","other_id":"req_2","choice":"tie","source":"chat"}'
DOORS = (
    Door("POST", "/v1/chat/completions", CHAT_BODY),
    Door("GET", "/v1/chat/completions"),
    Door("POST", "/v1/completions", b'{"model":"local","prompt":"Hi"}'),
    Door("POST", "/v1/embeddings", b'{"model":"text-embedding-3-small","input":"Hi"}'),
    Door("POST", "/v1/responses", b'{"model":"local","input":"Hi"}'),
    Door("GET", "/v1/responses/resp_1"),
    Door("DELETE", "/v1/responses/resp_1"),
    Door("POST", "/v1/responses/resp_1/cancel"),
    Door("GET", "/v1/responses/resp_1/input_items"),
    Door("POST", "/v1/responses/compact", b'{"model":"local","input":"Hi"}'),
    Door("POST", "/v1/responses/input_tokens", b'{"model":"local","input":"Hi"}'),
    Door("POST", "/v1/conversations", b"{}"),
    Door("GET", "/v1/models"),
    Door("GET", "/v1/models/auto"),
    Door("DELETE", "/v1/models/ft:gpt-4o:acme"),
    Door("POST", "/v1/feedback", b'{"request_id":"req_1","thumb":"up"}'),
    Door("GET", "/v1/files"),
    Door("POST", "/v1/files", b"x"),
    Door("GET", "/v1/files/file-1/content"),
    Door("POST", "/v1/batches", b"{}"),
    Door("POST", "/v1/images/generations", b"{}"),
    Door("POST", "/v1/audio/speech", b"{}"),
    Door("POST", "/v1/moderations", b"{}"),
    Door("POST", "/v1/fine_tuning/jobs", b"{}"),
    Door("POST", "/v1/realtime/client_secrets", b"{}"),
    Door("POST", "/v1/messages", b"{}"),
    Door("POST", "/v1/messages/count_tokens", b"{}"),
    Door("GET", "/v1/messages/batches"),
    Door("GET", "/v1/anything/else"),
    Door("GET", "/api/status"),
    Door("POST", "/api/decisions", CHAT_BODY),
    Door("GET", "/api/requests"),
    Door("GET", "/api/requests/req_1"),
    Door("GET", "/api/choices"),
    Door("POST", "/api/choices", CHOICE_BODY),
    Door("GET", "/api/stats", admin=True),
    Door("GET", "/api/quality", admin=True),
    Door("GET", "/api/pareto", admin=True),
    Door("GET", "/api/threshold", admin=True),
    Door("GET", "/api/threshold/preview?threshold=0.5", admin=True),
    Door("POST", "/api/routing/preview", b'{"rules":[]}', admin=True),
    Door("POST", "/api/threshold/apply", b'{"threshold":0.5,"dry_run":true}', admin=True),
    Door("POST", "/api/threshold/undo", b"{}", admin=True),
    Door("GET", "/api/learning", admin=True),
    Door("GET", "/api/experiments", admin=True),
    Door("POST", "/api/experiments/label", b"{}", admin=True),
    Door("GET", "/api/experiments/label/results", admin=True),
    Door("GET", "/api/jobs", admin=True),
    Door("GET", "/api/jobs/job_1", admin=True),
    Door("POST", "/api/jobs/job_1/cancel", b"{}", admin=True),
    Door("POST", "/api/verdicts", b"{}", admin=True),
    Door("GET", "/api/usage"),
    Door("GET", "/api/keys", admin=True),
    Door("POST", "/api/keys", b'{"name":"mine"}', admin=True),
    Door("PATCH", "/api/keys/0123456789abcdef", b'{"is_admin":true}', admin=True),
    Door("DELETE", "/api/keys/0123456789abcdef", admin=True),
)


def forms(sessions: dict[str, str]) -> Iterator[tuple[str, list[str], bool]]:
    """Name, header lines, and whether they are those of a plain key (else of nobody)."""
    other_site = ["Sec-Fetch-Site: cross-site"]
    yield "nothing", [], False
    yield "empty", ["Authorization: "], False
    yield "a scheme only", ["Authorization: Bearer "], False
    yield "a wrong key", ["Authorization: Bearer sk-wrong"], False
    yield "Basic", [f"Authorization: Basic {PLAIN}"], False
    yield "no scheme", [f"Authorization: {ADMIN}"], False
    yield "a shorter key", [f"Authorization: Bearer {ADMIN[:-1]}"], False
    yield "a longer key", [f"Authorization: Bearer {ADMIN}x"], False
    yield "capitals", [f"Authorization: Bearer {ADMIN.upper()}"], False
    yield "two keys", [f"Authorization: Bearer {ADMIN}, Bearer {PLAIN}"], False
    yield "a wrong x-api-key", ["x-api-key: sk-wrong"], False
    yield "the upstream's key", [f"Authorization: Bearer {CLOUD_KEY}"], False
    yield "a forged cookie", [f"Cookie: {COOKIE}=ffffffff.{'0' * 64}"], False
    yield "an altered cookie", [f"Cookie: {COOKIE}=f{sessions[ADMIN]}"], False
    for name, key in (("plain", PLAIN), ("admin", ADMIN)):
        cookie = f"Cookie: {COOKIE}={sessions[key]}"
        yield f"{name} cookie, foreign origin", [cookie, f"Origin: {FOREIGN}"], False
        yield f"{name} cookie, other site", [cookie, *other_site], False
    yield (
        "plain cookie, null origin",
        [f"Cookie: {COOKIE}={sessions[PLAIN]}", "Origin: null"],
        False,
    )
    yield "a plain key", [f"Authorization: Bearer {PLAIN}"], True
    yield "another plain key", [f"x-api-key: {OTHER}"], True
    yield "a plain cookie", [f"Cookie: {COOKIE}={sessions[PLAIN]}"], True


def denied(*statuses: int) -> Check:
    def check(seen: Seen) -> str | None:
        if seen.calls:
            return "reached an upstream"
        if seen.reply is None:
            return "no answer"
        if seen.reply.status not in statuses:
            return f"answered {seen.reply.status}"
        return None if seen.reply.is_envelope else "not the API's error form"

    return check


def attacks(sessions: dict[str, str]) -> Iterator[Attack]:
    for door in DOORS:
        for name, lines, is_plain in forms(sessions):
            if is_plain and not door.admin:
                continue  # allowed
            sent = request(
                door.body, *lines, method=door.method, path=door.path, length=bool(door.body)
            )
            check = denied(403) if is_plain else denied(401, 403)
            yield Attack(FAMILY, f"{door.method} {door.path} with {name}", sent, check)


async def test_authorization(start_runner: StartRunner) -> None:
    runner = await start_runner(KEYS)
    sessions = {}
    for key in (PLAIN, ADMIN):
        answer = await runner.proxy.client.post("/login", data={"key": key})
        sessions[key] = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert sessions[key]
    await runner.hold(attacks(sessions))


def without_keys() -> Iterator[Attack]:
    """Web pages that make a browser send requests to a proxy without keys."""
    pages = {
        "a foreign origin": ("localhost", [f"Origin: {FOREIGN}"]),
        "a null origin": ("localhost", ["Origin: null"]),
        "another site": ("localhost", ["Sec-Fetch-Site: cross-site"]),
        "another port": ("localhost", ["Origin: http://localhost:1"]),
        "a rebound name": ("evil.example", []),
        "a rebound name and origin": ("evil.example", [f"Origin: {FOREIGN}"]),
        "a name that starts alike": ("localhost.evil.example", []),
        "an address of another machine": ("192.168.1.1", []),
    }
    for door in DOORS:
        for name, (host, lines) in pages.items():
            sent = request(
                door.body,
                *lines,
                method=door.method,
                path=door.path,
                host=host,
                length=bool(door.body),
            )
            yield Attack(FAMILY, f"{door.method} {door.path} by {name}", sent, denied(403))


async def test_web_pages_without_keys(runner: AttackRunner) -> None:
    await runner.hold(without_keys())
