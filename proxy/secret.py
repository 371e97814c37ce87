"""Secrets of the configuration, masked by their type: API keys and the address of the database.

A secret shows itself masked in reprs, logs, tables and error messages. Only `reveal` returns the
value, so every place that uses it can be found.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

# What the error messages call these characters, and how a URL writes them (RFC 3986, section 2.1).
_ESCAPES: Final = {char: f"{char} as %{ord(char):02X}" for char in "%/?#[]@"} | {
    " ": "a space as %20"
}
_ESCAPED: Final = r"%(?!00)[0-9A-Fa-f]{2}"
_USER: Final = rf"(?:[^\s%/?#\[\]@:]|{_ESCAPED})*"
_PASSWORD: Final = rf"(?:[^\s%/?#\[\]@]|{_ESCAPED})*"
_HOST: Final = rf"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.~-]|{_ESCAPED})*)(?::\d{{1,5}})?"
_NAME: Final = rf"(?:[^\s%/?#\[\]@]|{_ESCAPED})+"
_VALUE: Final = rf"(?:[^\s%#\[\]@&=?]|{_ESCAPED})*"
# A connection URI (https://www.postgresql.org/docs/current/libpq-connect.html, 34.1.1.2), with
# every special character of the user name and the password escaped.
_POSTGRESQL: Final = re.compile(
    rf"postgresql://(?:(?P<user>{_USER})(?P<colon>:{_PASSWORD})?@)?"
    rf"(?P<place>{_HOST}(?:,{_HOST})*/{_NAME})"
    rf"(?:\?(?P<query>[a-z_]+={_VALUE}(?:&[a-z_]+={_VALUE})*)?)?"
)
_BEFORE_QUERY: Final = re.compile(
    rf"postgresql://(?:{_USER}(?::{_PASSWORD})?@)?{_HOST}(?:,{_HOST})*/{_NAME}\?"
)
# Of another database, or of a driver. Longer names may be a part of a password.
_SCHEME: Final = re.compile(r"([a-z0-9]{1,20}(?:\+[a-z0-9_]{1,20})?)://")
# The parameters whose values are shown; a new one is masked until it is listed.
_SHOWN_PARAMETERS: Final = frozenset({"dbname", "host", "port", "sslmode", "user"})

KEY_PREFIX: Final = "hlr-"  # of the keys that admins create
REDACTED: Final = "[redacted]"
_WORD_CHARS: Final = 8  # a shorter secret may be a part of a word
_PREFIXES: Final = (KEY_PREFIX, "sk-", "rk-", "pk-", "xai-", "pplx-")
# Keys of providers and of this proxy by their first characters, also masked ones. A literal at the
# beginning of a pattern makes its search fast.
_KEYS: Final = tuple(
    re.compile(rf"{prefix}(?<!\w{prefix}){rest}", re.ASCII)
    for prefix, rest in (
        *((prefix, r"[\w*.-]{6,}") for prefix in _PREFIXES),
        *((prefix, r"\w{10,}") for prefix in ("gsk_", "hf_", "ghp_", "gho_", "github_pat_")),
        ("AIza", r"[\w-]{20,}"),
        ("AKIA", r"[A-Z0-9]{12,}"),
    )
)
_LOGIN: Final = re.compile(r"://[^\s/@\"']{1,200}@")  # of a URL
_SCHEMES: Final = re.compile(
    r"\b(bearer )[\w.~+/=*-]{6,}|\b(basic )(?=[\w+/]*[\d=])[\w+/=]{12,}", re.IGNORECASE | re.ASCII
)
_FIELDS: Final = re.compile(
    r"(\\?[\"'](?:(?:proxy-)?authorization|x-api-key|api-?key|api_key)\\?[\"']\s*:\s*\\?[\"'])"
    r"[^\"'\\]+",
    re.IGNORECASE | re.ASCII,
)
_FIELD_NAMES: Final = ("authorization", "api-key", "api_key", "apikey")


class Redactor:
    """Replaces credentials in a text of an upstream or a client by `[redacted]`.

    Args:
        secrets: of the configuration. Whatever looks like a key is replaced, too.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted(set(secrets), key=len, reverse=True)  # one may contain another

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            if secret not in text:
                continue
            if len(secret) >= _WORD_CHARS:
                text = text.replace(secret, REDACTED)
            else:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", REDACTED, text)
        for pattern in _KEYS:
            text = pattern.sub(REDACTED, text)
        text = _LOGIN.sub(f"://{REDACTED}@", text)
        lowered = text.lower()  # the other patterns are slow, and most texts need none
        if "bearer " in lowered or "basic " in lowered:
            text = _SCHEMES.sub(_keep_scheme, text)
        if any(name in lowered for name in _FIELD_NAMES):
            text = _FIELDS.sub(rf"\g<1>{REDACTED}", text)
        return text


def _keep_scheme(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}{REDACTED}"


class Secret:
    """A string that is hidden in reprs, logs and error messages."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Call it only to send the value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class DatabaseUrl(Secret):
    """The address of the database, shown without its password."""

    __slots__ = ()

    def __str__(self) -> str:
        """The address with every password masked. An unknown form is masked whole."""
        if self.is_sqlite:
            return self._value
        found = _POSTGRESQL.fullmatch(self._value)
        if found is None:
            return f"{self._value.partition(':')[0]}://***" if self.is_postgresql else "***"
        user = "" if found["user"] is None else found["user"] + ":***" * bool(found["colon"]) + "@"
        query = "&".join(_masked_parameters(found["query"] or ""))
        return f"postgresql://{user}{found['place']}{query and '?' + query}"

    def __repr__(self) -> str:
        return f"DatabaseUrl({str(self)!r})"

    @property
    def is_sqlite(self) -> bool:
        return self._value.startswith("sqlite:///")

    @property
    def is_postgresql(self) -> bool:
        return self._value.startswith("postgresql:")

    @property
    def path(self) -> str:
        """The file of a SQLite database."""
        return self._value.removeprefix("sqlite:///")

    def _problem_of_scheme(self) -> str | None:
        """Of the scheme only: what follows it may have a password."""
        found = _SCHEME.match(self._value)
        if found is None or found[1] in ("postgresql", "sqlite"):
            return None
        return f"unknown scheme '{found[1]}': use postgresql:// or sqlite:///"

    def problem(self) -> str | None:
        """What is wrong with the address, without any part of it but its special characters."""
        if re.search(r"[\x00-\x1f\x7f-\x9f]", self._value):
            return "has a line break or another control character"
        if (problem := self._problem_of_scheme()) is not None:
            return problem
        if not self.is_postgresql:
            if self.is_sqlite and self.path not in ("", ":memory:"):
                return None
            return "a SQLite URL has the form sqlite:///FILE (three slashes, then a path)"
        if _POSTGRESQL.fullmatch(self._value):
            return None
        before = _BEFORE_QUERY.match(self._value)
        if before and ("@" in before[0] or "@" not in self._value):  # else @ ends the password
            return _unescaped("the parameters after ?", self._value.partition("?")[2], safe="/")
        user, _, password = self._value[len("postgresql://") :].rpartition("@")[0].partition(":")
        for part, text in (("the user name", user), ("the password", password)):
            if not re.fullmatch(_PASSWORD, text):
                return _unescaped(part, text)
        return "a PostgreSQL URL has the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def _masked_parameters(query: str) -> Iterator[str]:
    for parameter in filter(None, query.split("&")):
        name = parameter.partition("=")[0]
        yield parameter if name in _SHOWN_PARAMETERS else f"{name}=***"


def _unescaped(part: str, text: str, *, safe: str = "") -> str:
    """How to write a part of a URL that has characters with a meaning in URLs."""
    rest = re.sub(_ESCAPED, "", text)
    found = [_ESCAPES[char] for char in _ESCAPES if char in rest and char not in safe]
    if not found:
        return f"{part} cannot be read; a password belongs between USER: and @HOST"
    return f"{part} must be escaped: write {', '.join(found)}"
