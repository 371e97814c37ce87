"""JSON of requests: sizes, numbers of items, depth, duplicate and near-duplicate keys, numbers."""

import json
from collections.abc import Iterator
from typing import Any

from attack import (
    LATE_SECONDS,
    Attack,
    AttackRunner,
    Bystander,
    Check,
    Seen,
    exchange,
    peak_memory,
    read_replies,
    refused,
    request,
)
from fakes import Call
from live import chat_body

FAMILY = "JSON"
LARGE = "large JSON"
SAFE = "harmless"
REAL = "the real prompt"
PATHS = {
    "/v1/chat/completions": ("messages", [{"role": "user", "content": SAFE}]),
    "/v1/responses": ("input", SAFE),
    "/v1/completions": ("prompt", SAFE),
    "/v1/embeddings": ("input", SAFE),
}


def document(path: str, **fields: Any) -> dict[str, Any]:
    field, value = PATHS[path]
    return {"model": "local", field: value} | fields


def attack(name: str, path: str, body: bytes, check: Check) -> Attack:
    return Attack(FAMILY, f"{path}: {name}", request(body, path=path), check)


def one_meaning(*hidden: str) -> Check:
    """Refused, or the upstream got nothing that the proxy did not read."""

    def check(seen: Seen) -> str | None:
        if seen.reply is None:
            return "no answer"
        for call in seen.calls:
            if problem := _hidden(call, hidden):
                return problem
        return None if seen.reply.status == 200 else refused(seen)

    return check


def _hidden(call: Call, hidden: tuple[str, ...]) -> str | None:
    text = call.body.decode("utf-8", "surrogatepass")
    return next((f"the upstream got {item!r}" for item in hidden if item in text), None)


def answered_or_refused(seen: Seen) -> str | None:
    if seen.reply is None:
        return "no answer"
    return None if seen.reply.status == 200 else refused(seen)


def near_duplicates() -> Iterator[Attack]:
    """A server that ignores case would read the other key (Go's encoding/json does)."""
    other: dict[str, Any] = {
        "model": "other:70b",
        "messages": [{"role": "user", "content": REAL}],
        "input": REAL,
        "prompt": REAL,
        "stream": True,
        "tools": [{"type": "function", "function": {"name": REAL}}],
        "max_tokens": 99_999,
        "n": 77_777,
        "instructions": REAL,
        "previous_response_id": "resp_of_another",
        "conversation": "conv_of_another",
        "service_tier": "other-tier",
        "background": True,
    }
    common = ("model", "stream", "max_tokens", "n", "service_tier")
    known = {
        "/v1/chat/completions": (*common, "messages", "tools"),
        "/v1/responses": (
            *("model", "stream", "service_tier", "input", "tools", "instructions"),
            *("previous_response_id", "conversation", "background"),
        ),
        "/v1/completions": (*common, "prompt"),
        "/v1/embeddings": ("model", "input"),
    }
    for path, (field, _) in PATHS.items():
        for key in known[path]:
            value = other[key]
            for spelling in {key.upper(), key.capitalize(), key[:-1] + key[-1].upper()}:
                body = json.dumps(document(path) | {spelling: value}).encode()
                name = f"{spelling!r} beside {key!r}"
                yield attack(name, path, body, one_meaning(f'"{spelling}"'))
        for key, spelling in (("messages", "me\u017f\u017fages"), ("tokens", "to\u212aens")):
            # U+017F and U+212A equal "s" and "k" where case is folded.
            value = other.get(key, 1)
            body = json.dumps(document(path) | {spelling: value}, ensure_ascii=False).encode()
            if key == field:
                yield attack(f"folded {key}", path, body, one_meaning(spelling))
        if path == "/v1/chat/completions":
            for key in ("role", "content"):
                for spelling in {key.upper(), key.capitalize()}:
                    turn = {"role": "user", "content": SAFE, spelling: REAL}
                    body = json.dumps(document(path, messages=[turn])).encode()
                    name = f"{spelling!r} in a message"
                    yield attack(name, path, body, one_meaning(REAL))


def duplicates() -> Iterator[Attack]:
    for path, (field, value) in PATHS.items():
        first = json.dumps(value)
        second = json.dumps([{"role": "user", "content": REAL}] if field == "messages" else REAL)
        for name, text in {
            "first harmless": f'{{"model":"local","{field}":{first},"{field}":{second}}}',
            "first real": f'{{"model":"local","{field}":{second},"{field}":{first}}}',
            "model twice": f'{{"model":"local","{field}":{first},"model":"other:70b"}}',
            "escaped key": f'{{"model":"local","mod\\u0065l":"other:70b","{field}":{first}}}',
            "escaped field": f'{{"model":"local","{field}":{first},'
            f'"\\u{ord(field[0]):04x}{field[1:]}":{second}}}',
        }.items():
            yield attack(f"duplicate keys, {name}", path, text.encode(), agree)


def agree(seen: Seen) -> str | None:
    """First and last of duplicate keys do not name two models or two prompts."""
    if seen.reply is None:
        return "no answer"
    for call in seen.calls:
        pairs = json.loads(call.body, object_pairs_hook=lambda pairs: pairs)
        keys = [key for key, _ in pairs]
        doubled = {key for key in keys if keys.count(key) > 1}
        if doubled:
            return f"the upstream got {sorted(doubled)} twice"
    return None if seen.reply.status == 200 else refused(seen)


def numbers() -> Iterator[Attack]:
    texts = [
        *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400, "0x10", "01", "+1", ".5"),
        *("5.", "1e", "--1", "1_000", "\u0661", "-", "1.5", "-5", "1e3", "1E-400", '"5"', "true"),
        *("null", "[]", "{}", "1e308", "0." + "1" * 5_000),
    ]
    fields = ("max_tokens", "n", "temperature", "top_p", "seed", "stream", "max_completion_tokens")
    for text in texts:
        for field in fields:
            body = chat_body(model="local")[:-1] + f',"{field}":{text}}}'.encode()
            yield attack(f"{field} {text[:16]}", "/v1/chat/completions", body, answered_or_refused)
        body = b'{"model":"local","input":"Hi","max_output_tokens":' + text.encode() + b"}"
        yield attack(f"max_output_tokens {text[:16]}", "/v1/responses", body, answered_or_refused)


def forms() -> Iterator[Attack]:
    for path in PATHS:
        good = json.dumps(document(path))
        for name, body in {
            "empty": b"",
            "null": b"null",
            "a list": b"[]",
            "a text": b'"x"',
            "a number": b"1",
            "a BOM": b"\xef\xbb\xbf" + good.encode(),
            "UTF-16": good.encode("utf-16"),
            "UTF-32": good.encode("utf-32"),
            "two documents": good.encode() * 2,
            "a tail": good.encode() + b"x",
            "NUL at the end": good.encode() + b"\x00",
            "comments": b"/* */" + good.encode(),
            "a trailing comma": good.encode()[:-1] + b",}",
            "single quotes": good.replace('"', "'").encode(),
            "cut": good.encode()[:-1],
            "not UTF-8": good.encode().replace(b"harmless", b"\xff\xfe"),
            "a surrogate": good.encode().replace(b"harmless", b"\xed\xa0\x80"),
            "overlong": good.encode().replace(b"harmless", b"\xc0\xaf"),
            "an escaped surrogate": good.replace("harmless", "\\ud800").encode(),
            "a control character": good.replace("harmless", "a\x01b").encode(),
            "deep lists": b'{"model":' + b"[" * 100_000,
            "deep objects": b'{"a":' * 100_000,
            "deep and closed": good.encode()[:-1] + b',"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        }.items():
            check = answered_or_refused if name.startswith(("an esc", "deep and")) else refused
            if name in ("a BOM", "a surrogate", "overlong", "not UTF-8"):
                check = answered_or_refused
            yield attack(name, path, body, check)


def names() -> Iterator[Attack]:
    for path in PATHS:
        for size in (300, 1_000, 20_000, 1_000_000):
            body = json.dumps(document(path, model="x" * size)).encode()
            yield attack(f"a model's name of {size}", path, body, refused)
            body = json.dumps(document(path, model="auto:" + "x" * size)).encode()
            yield attack(f"an option of {size}", path, body, refused)


def small() -> Iterator[Attack]:
    yield from near_duplicates()
    yield from duplicates()
    yield from numbers()
    yield from forms()
    yield from names()


async def test_json(runner: AttackRunner) -> None:
    await runner.hold(small())


# ── Large bodies ──────────────────────────────────────────────────────────────────────────────


def bounded(seen: Seen) -> str | None:
    late, growth = seen.facts["late"], seen.facts["growth"]
    if late > LATE_SECONDS:
        return f"another client waited for {late:.2f} s"
    if growth > 10 * seen.facts["size"] + 50:
        return f"memory grew by {growth:.0f} MB for {seen.facts['size']:.0f} MB"
    return None if seen.reply is not None else "no answer"


def large() -> Iterator[tuple[str, str, bytes]]:
    chat, responses, embeddings = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
    turn = b'{"role":"user","content":"a"}'
    part = b'{"type":"text","text":"a"}'
    tool = b'{"type":"function","function":{"name":"f"}}'

    def many(item: bytes, megabytes: int) -> bytes:
        return b"[" + b",".join([item] * (megabytes * 1_000_000 // (len(item) + 1))) + b"]"

    def keys(number: int) -> bytes:
        return b"{" + b",".join(b'"k%d":"v"' % item for item in range(number)) + b"}"

    start = b'{"model":"local","messages":[{"role":"user","content":"Hi"}],'
    for size in (8, 28):
        yield (
            f"{size} MB of messages",
            chat,
            b'{"model":"auto","messages":' + many(turn, size) + b"}",
        )
        yield (
            f"{size} MB of parts",
            chat,
            b'{"model":"auto","messages":[{"role":"user","content":' + many(part, size) + b"}]}",
        )
        yield f"{size} MB of tools", chat, start + b'"tools":' + many(tool, size) + b"}"
        yield f"{size} MB of stops", chat, start + b'"stop":' + many(b'"a"', size) + b"}"
        yield (
            f"{size} MB of items",
            responses,
            b'{"model":"auto","input":' + many(turn, size) + b"}",
        )
        yield (
            f"{size} MB of tokens",
            embeddings,
            b'{"model":"local","input":' + many(b"1", size) + b"}",
        )
        yield (
            f"{size} MB of token lists",
            embeddings,
            b'{"model":"local","input":' + many(b"[1]", size) + b"}",
        )
        yield (
            f"{size} MB of prompts",
            "/v1/completions",
            b'{"model":"local","prompt":' + many(b'"a"', size) + b"}",
        )
        yield f"{size} MB of metadata", chat, start + b'"metadata":' + keys(size * 65_000) + b"}"
        yield f"{size} MB of keys", chat, start + keys(size * 65_000)[1:]
        yield f"{size} MB of biases", chat, start + b'"logit_bias":' + keys(size * 65_000) + b"}"
    yield "a name of 20 MB", chat, chat_body(model="x" * 20_000_000)
    yield "a text of 20 MB", chat, chat_body(model="auto", text="word " * 4_000_000)
    yield "a key of 20 MB", chat, start + b'"' + b"k" * 20_000_000 + b'":1}'
    yield "20 MB of [", chat, start + b'"x":' + b"[" * 20_000_000
    yield "20 MB of escapes", chat, chat_body(text="\u0001" * 3_000_000)
    yield "20 MB of backslashes", chat, start + b'"x":"' + b"\\\\" * 10_000_000 + b'"}'


async def test_large_json(runner: AttackRunner) -> None:
    async def send(attack: Attack, seen: Seen) -> None:
        path, body = attack.sent
        sent = request(body, path=path)
        port = runner.proxy.port
        late = 0.0
        for _ in range(2):  # a busy machine is rarely late twice
            with peak_memory() as peak, Bystander(port) as bystander:
                seen.raw, seen.closed = await exchange(port, [sent], seconds=20)
            late = bystander.worst
            if late <= LATE_SECONDS:
                break
        seen.replies = read_replies(seen.raw)
        size = len(body) / 1e6
        seen.facts = {"late": late, "growth": peak.growth, "size": size}

    await runner.hold(
        (Attack(LARGE, name, (path, body), bounded) for name, path, body in large()), send
    )
