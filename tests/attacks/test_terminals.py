"""Text of clients and upstreams on its way to a log or a terminal, and secrets on it."""

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from attack import Attack, Seen, exchange, read_replies, report, request
from fakes import FakeUpstream, answer_json, error_json, whole
from live import chat_body, config_fields, merge
from malformed import MALFORMED
from proxy.cli.main import main
from served import Served

pytest_plugins = ["databases"]

FAMILY = "text to terminals"
SECRETS = "secrets"
FORGED = "FORGED"
PLAIN_CODES = "\n\t "

CHARACTERS = [
    *(chr(code) for code in range(0x20) if chr(code) not in "\t"),
    *(chr(code) for code in range(0x7F, 0xA0)),
    *("\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2067", "\u2068", "\u061c", "\u200f"),
]
SEQUENCES = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\",
    "\x1b[31m",
    "\x9b31m",
    "\x1bP+q\x1b\\",
    "\r\n",
    "\n2026-11-28 00:00:00,000 ERROR ",
    "\x08" * 20,
    "\r" + " " * 20,
]
MARKUP = ["[red]", "[/red]", "[/]", "[link=http://evil.example]", "[@click=x]", ":bomb:", "[bold"]


class Place(NamedTuple):
    """Where a text is put: the request, with the text as JSON or in an address."""

    name: str
    sent: Callable[[str], bytes]


def named(text: str) -> bytes:
    return request(chat_body(model=f"gpt{text}{FORGED}"), "x-router-trace: true")


def of_user(text: str) -> bytes:
    body = chat_body(model="auto", user=f"u{text}{FORGED}", prompt_cache_key=f"k{text}{FORGED}")
    return request(body, "x-router-trace: true")


def answered(text: str) -> bytes:
    """The upstream puts the text of the question into its own answer's model."""
    return request(chat_body(model="cloud", text=f"echo{text}{FORGED}"), "x-router-trace: true")


PLACES = (Place("a model's name", named), Place("a user", of_user), Place("an answer", answered))


def shows(output: str) -> str | None:
    """What of an output a terminal would obey, or a reader take for a line of its own."""
    for line in output.splitlines():
        if line.startswith((FORGED, "2026-11-28 00:00:00,000 ERROR")):
            return f"a forged line: {line[:60]!r}"
    for character in output:
        if character not in PLAIN_CODES and unicodedata.category(character) in ("Cc", "Cf", "Zl"):
            return f"shows {character!r}"
    return None


def texts() -> Iterator[tuple[str, str]]:
    for character in CHARACTERS:
        yield f"{character!r}", character
    for sequence in [*SEQUENCES, *MARKUP]:
        yield f"{sequence!r}", sequence


def quiet(seen: Seen) -> str | None:
    for name in ("log", "explain", "stats"):
        if problem := seen.facts.get(name):
            return f"{name}: {problem}"
    return None if seen.reply is not None else "no answer"


def attacks() -> Iterator[Attack]:
    for place in PLACES:
        for name, text in texts():
            yield Attack(FAMILY, f"{name} in {place.name}", place.sent(text), quiet)


async def test_text_to_terminals(
    tmp_path: Path,
    local: FakeUpstream,
    cloud: FakeUpstream,
    record_property: Callable[[str, object], None],
) -> None:
    def echo(call: object) -> list[bytes]:
        body = json.loads(call.body)  # type: ignore[attr-defined]
        text = body["messages"][0]["content"]
        if text.startswith("echo"):
            answer = json.loads(answer_json()) | {"model": text, "service_tier": text}
            return whole(json.dumps(answer).encode())  # type: ignore[return-value]
        return whole(error_json(body["model"]), status=404)  # type: ignore[return-value]

    cloud.answer = echo  # type: ignore[assignment]
    changes = {"logging": {"requests": "all", "format": "text"}}
    through: list[str] = []
    number = 0
    async with Served(tmp_path, local, cloud, changes=changes) as proxy:
        runner = CliRunner()
        config = str(proxy.config_file)
        seen_bytes = len(proxy.log)
        for attack in attacks():
            number += 1
            seen = Seen()
            seen.raw, seen.closed = await exchange(proxy.port, [attack.sent])
            seen.replies = read_replies(seen.raw)
            new = proxy.log[seen_bytes:]
            seen_bytes += len(new)
            seen.facts["log"] = shows(new.decode(errors="replace"))
            if problem := attack.check(seen):
                through.append(f"{attack.name}: {problem}")
        assert await proxy.stop() == 0
        rows = [row["id"] for row in proxy.query("select id from requests order by id")]
        for row in rows:
            number += 1
            result = runner.invoke(main, ["explain", row, "--config", config])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                through.append(f"explain {row}: {result.exception!r}")
            elif problem := shows(result.output):
                through.append(f"explain {row}: {problem}")
        for by in ("model", "tier", "day", "endpoint", "reason", "category", "hour", "key"):
            result = runner.invoke(main, ["stats", "--config", config, "--by", by])
            if result.exit_code == 2:
                continue  # no such table
            number += 1
            if result.exception is not None:
                through.append(f"stats --by {by}: {result.exception!r}")
            elif problem := shows(result.output):
                through.append(f"stats --by {by}: {problem}")
    report(record_property, FAMILY, number, through)


# ── Secrets ───────────────────────────────────────────────────────────────────────────────────

FIRST, LAST = "Hunter2Secret", "LongerSecret"
SPECIAL = [
    *("%", "%zz", "%00", "%2", "@", "/", " ", "[", "]", ";", "#", "?", ":", "'", '"', "\\", "&"),
    *(
        "=",
        "+",
        "\t",
        "|",
        "<",
        ">",
        "{",
        "}",
        "^",
        "`",
        "~",
        "$$",
        "!",
        "*",
        "(",
        ")",
        ",",
        "\u00e9",
    ),
    *("@@", "//", "://", "?#", "%%", "@/", "[1]", "%40", "%2F", "%20", "%5B"),
]
COMMANDS = (("check-config",), ("stats",), ("db", "check"), ("export", "--out", "-"))


def database_files(folder: Path) -> Iterator[tuple[str, Path]]:
    fields = config_fields(folder, "http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1")
    for number, special in enumerate(SPECIAL):
        password = f"{FIRST}{special}{LAST}"
        for form, url in {
            "in the authority": f"postgresql://u:{password}@127.0.0.1:1/db",
            "as a parameter": f"postgresql://u@127.0.0.1:1/db?password={password}",
        }.items():
            path = folder / f"database-{number}-{form[:2]}.yaml"
            path.write_text(json.dumps(merge(fields, {"storage": {"url": url}})))
            yield f"password with {special!r} {form}", path


def silent(seen: Seen) -> str | None:
    output: str = seen.facts["output"]
    for secret in (FIRST, LAST):
        if secret in output:
            return f"shows {secret}: {output.strip()[:120]!r}"
    if "Traceback" in output or seen.facts["crash"]:
        return f"a traceback: {seen.facts['crash']}"
    return None


def test_secrets(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    key = f"sk-{FIRST}-{LAST}"
    files = list(database_files(tmp_path))
    for number, text in enumerate(MALFORMED):
        path = tmp_path / f"malformed-{number}.yaml"
        path.write_text(text.replace("KEY", key))
        files.append((f"malformed {text!r}", path))
    attacks = [
        Attack(SECRETS, f"{' '.join(command)}: {name}", (*command, path), silent)
        for name, path in files
        for command in (COMMANDS[:3] if name.startswith("password") else COMMANDS[:2])
    ]
    through = []
    for attack in attacks:
        *command, path = attack.sent
        option = [str(path)] if command == ["check-config"] else ["--config", str(path)]
        result = CliRunner().invoke(main, [*command, *option])
        crash = result.exception
        crashed = crash is not None and not isinstance(crash, SystemExit)
        seen = Seen(facts={"output": result.output, "crash": repr(crash) if crashed else ""})
        if problem := attack.check(seen):
            through.append(f"{attack.name}: {problem}")
    report(record_property, SECRETS, len(attacks), through)


async def test_secrets_at_the_start(
    tmp_path: Path,
    local: FakeUpstream,
    cloud: FakeUpstream,
    postgres_url: str,
    record_property: Callable[[str, object], None],
) -> None:
    """What `serve` prints and logs with a database that works."""
    at = postgres_url.index("@")
    urls = {
        "plain": f"{postgres_url[:at]}:{FIRST}{LAST}{postgres_url[at:]}",
        "escaped": f"{postgres_url[:at]}:{FIRST}%40%2F%25{LAST}{postgres_url[at:]}",
        "as a parameter": f"{postgres_url}?password={FIRST}{LAST}",
    }
    through = []
    for name, url in urls.items():
        changes = {"storage": {"url": url}, "server": {"api_keys": [f"sk-{FIRST}-{LAST}"]}}
        folder = tmp_path / name
        folder.mkdir()
        async with Served(folder, local, cloud, changes=changes) as proxy:
            await proxy.stop()
            seen = Seen(facts={"output": proxy.log.decode(), "crash": ""})
        if problem := silent(seen):
            through.append(f"serve, password {name}: {problem}")
    report(record_property, SECRETS, len(urls), through)
