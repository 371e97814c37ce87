"""Methods and spellings of paths: what is not a known method or path does not pass."""

from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from attack import (
    CHAT,
    QUESTION,
    Attack,
    AttackRunner,
    Check,
    Seen,
    refused,
    request,
)

FAMILY = "methods and paths"
STORED = "/v1/responses/resp_1"
CANONICAL = frozenset({CHAT, "/v1/responses", "/v1/completions", "/v1/embeddings"})

# Suffixes that make another name, which no server takes for the one without.
OTHER_NAMES = (":x", "~", ".json", "+", "%25%32%65", "%2520", "%252F", "%", "%2", "%zz", "%u002e")


def harmless(seen: Seen) -> str | None:
    """Refused, or treated as the path that the spelling means."""
    if any(call.path not in CANONICAL for call in seen.calls):
        return f"the upstream got {seen.calls[0].path}"
    if seen.reply is None:
        return None if seen.closed else "no answer"
    if seen.calls:
        return None if seen.reply.header("x-router-model") else "an uncounted call"
    return None if 300 <= seen.reply.status < 500 else f"answered {seen.reply.status}"


def not_reflected(seen: Seen) -> str | None:
    """TRACE shows nothing of a request, to anybody."""
    return refused(seen)


def methods() -> Iterator[Attack]:
    names = [
        *("TRACE", "CONNECT", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
        *("SEARCH", "PURGE", "LINK", "UNLINK", "BIND", "REPORT", "SUBSCRIBE", "NOTIFY", "M-SEARCH"),
        *("QUERY", "SOURCE", "ACL", "MERGE", "CHECKOUT", "REBIND", "UNBIND", "MKACTIVITY"),
        *("post", "Get", "TRACK", "DEBUG", "FOO", "X" * 200, "GET\u00e9", "UNSUBSCRIBE"),
    ]
    paths = (CHAT, "/v1/files", "/v1/models/x", STORED, "/v1/images/generations", "/v1/messages")
    for name in names:
        for path in paths:
            sent = request(b"", method=name, path=path, length=False)
            yield Attack(FAMILY, f"{name[:12]} {path}", sent, not_reflected)
    for authority in ("localhost:80", "api.openai.com:443", "169.254.169.254:80"):
        sent = request(b"", method="CONNECT", path=authority, length=False)
        yield Attack(FAMILY, f"CONNECT {authority}", sent, refused)
    for path in ("/", "/health", "/metrics", "/login", "/api/stats", "*"):
        for name in ("TRACE", "CONNECT", "PATCH", "PURGE"):
            sent = request(b"", method=name, path=path, length=False)
            yield Attack(FAMILY, f"{name} {path}", sent, no_success)


def no_success(seen: Seen) -> str | None:
    if seen.calls:
        return "reached an upstream"
    if seen.reply is None:
        return None if seen.closed else "no answer"
    return None if 400 <= seen.reply.status < 502 else f"answered {seen.reply.status}"


def spellings() -> Iterator[Attack]:
    suffixes = [
        *(";x", ";", "%3Bx", "%3b", ".", "..", "%2E", "%20", "%09", "%0A", "%0D%0Ax", "%00", "%7F"),
        *(
            "%3F",
            "%3Fx=1",
            "%23",
            "%23x",
            "%2F",
            "%2f..",
            "/.",
            "/..",
            "//",
            "/%2e%2e",
            "%5C",
            "\\",
        ),
        *("%C0%AF", "%FF", "%", "%2", "%zz", "%u002e", "%25%32%65", "%2520", ":x", "%C2%A0", "~"),
        *("%E2%80%8B", "%1F", "%01", "%0B", "%80", "%C2%85", "%E2%80%A8", ".json", "%252F", "+"),
    ]
    for base in ("/v1/chat/completions", "/v1/responses", STORED):
        method = "GET" if base == STORED else "POST"
        for suffix in suffixes:
            body = b"" if method == "GET" else QUESTION
            check: Check = refused if base == STORED and suffix[0] in "%;" else harmless
            if suffix in OTHER_NAMES:
                check = no_escape
            sent = request(body, method=method, path=base + suffix, length=bool(body))
            yield Attack(FAMILY, f"{base}{suffix}", sent, check)
    for path in (
        *("//v1/chat/completions", "/v1//chat/completions", "/v1/chat//completions"),
        *("/v1/./chat/completions", "/v1/x/../chat/completions", "/./v1/chat/completions"),
        *("/v1/%2e/chat/completions", "/v1/%2e%2e/v1/chat/completions", "/v1/chat%2Fcompletions"),
        *("/v1/chat%5Ccompletions", "/v1/chat\\completions", "/v1%2Fchat/completions"),
        *("/v1/CHAT/completions", "/V1/chat/completions", "/v1/Chat/Completions"),
        *("/v1/chat/%63ompletions", "/v1/%63%68at/completions", "/v1/chat /completions"),
        *("/v1/ chat/completions", "/v1/%20chat/completions", "/v1/;x/chat/completions"),
        *("/v1;x/chat/completions", "/v1/chat;x=1/completions", "/v1/chat%3Bx/completions"),
        *("/v1/chat%00/completions", "/v1/chat%0A/completions", "/v1/%00/chat/completions"),
        *("/v1/../admin", "/v1/..", "/v1/.", "/v1/%2e%2e/%2e%2e/etc/passwd", "/v1/..%2f..%2fx"),
        *("/v1/..;/admin", "/v1/%252e%252e/x", "/v1/....//x", "/v1/files/../../x", "/v1\\..\\x"),
        *("/ui/../config.yaml", "/ui/%2e%2e/%2e%2e/config.yaml", "/ui//etc/passwd", "/ui/..%5Cx"),
        *("/ui/%2fetc%2fpasswd", "/ui/x%00.js", "/api/requests/..%2f..", "/api/requests/%00"),
        *("/api/jobs/%2e%2e", "/api/experiments/..%2f..%2fx", "/api/experiments/%00/results"),
    ):
        for method in ("POST", "GET"):
            body = QUESTION if method == "POST" else b""
            sent = request(body, method=method, path=path, length=bool(body))
            check = harmless if method == "POST" else no_escape
            if path.startswith(("/ui", "/api")):
                check = not_found
            yield Attack(FAMILY, f"{method} {path}", sent, check)
    for code in [*range(0x21), 0x7F, 0x80, 0xFF]:
        raw = b"/v1/chat/completions" + bytes([code])
        yield Attack(FAMILY, f"raw {code:#x} at the end", request(QUESTION, path=raw), harmless)
        raw = b"/v1/files/" + b"a%%%02Xb" % code
        sent = request(b"", method="GET", path=raw, length=False)
        if code not in (0x80, 0xFF):
            yield Attack(FAMILY, f"escaped {code:#x} in a step", sent, refused)
    for target in ("/login?next=//[", "/login?next=http://[x", "/login?next=%2F%2F%5B", "/?x=//["):
        sent = request(b"", method="GET", path=target, length=False)
        yield Attack(FAMILY, target, sent, no_error)
    for target in (
        *("//evil.example", "/\\evil.example", "https:evil.example", "javascript:alert(1)"),
        *("///evil.example", "/dashboard%0d%0aset-cookie:x=1", "%2F%2Fevil.example", "/%09/evil"),
    ):
        sent = request(b"", method="GET", path=f"/login?next={target}", length=False)
        yield Attack(FAMILY, f"/login?next={target}", sent, no_redirect)


def no_escape(seen: Seen) -> str | None:
    """Refused, or passed on below /v1 without a character that a lenient server might trim."""
    for call in seen.calls:
        path = unquote_to_bytes(call.path)
        steps = path.split(b"/")
        if steps[:2] != [b"", b"v1"] or {b"", b".", b".."}.intersection(steps[2:]):
            return f"the upstream got {call.path}"
        if any(code <= 0x20 or code == 0x7F or code in b";?#" for code in path):
            return f"the upstream got {call.path}"
    if seen.reply is None:
        return None if seen.closed else "no answer"
    return None if seen.reply.status < 500 else f"answered {seen.reply.status}"


def not_found(seen: Seen) -> str | None:
    if seen.calls:
        return "reached an upstream"
    if seen.reply is None:
        return None if seen.closed else "no answer"
    if b"root:" in seen.raw or b"base_url" in seen.raw:
        return "shows a file"
    return None if seen.reply.status in range(300, 500) else f"answered {seen.reply.status}"


def no_error(seen: Seen) -> str | None:
    if seen.reply is None:
        return "no answer"
    return None if seen.reply.status < 500 else f"answered {seen.reply.status}"


def no_redirect(seen: Seen) -> str | None:
    if seen.reply is None:
        return "no answer"
    if any(name == "set-cookie" for name, _ in seen.reply.headers):
        return "sets a cookie"
    location = seen.reply.header("location") or "/"
    if not location.startswith("/") or location.startswith(("//", "/\\")):
        return f"redirects to {location}"
    return no_error(seen)


async def test_methods_and_paths(runner: AttackRunner) -> None:
    await runner.hold([*methods(), *spellings()])
