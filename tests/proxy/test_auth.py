"""API keys: authentication, and that no error reveals a key."""

import time

import pytest

from proxy.auth import ApiKeys, LoginLimiter, Principal
from proxy.config import ApiKeyConfig, Secret
from proxy.errors import Forbidden, NotAuthenticated
from proxy.record import key_hash

KEYS = ApiKeys(
    [
        ApiKeyConfig(key=Secret("sk-one")),
        ApiKeyConfig(key=Secret("sk-zwei-ü"), requests_per_minute=3, cloud_usd_per_day=0.5),
    ]
)


def authorization_header(authorization: bytes | None) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", authorization)] if authorization is not None else []


@pytest.mark.parametrize(
    ("authorization", "key"),
    [
        ("Bearer sk-one", "sk-one"),
        ("bearer sk-one", "sk-one"),
        ("BEARER  sk-one ", "sk-one"),
        ("Bearer sk-zwei-ü", "sk-zwei-ü"),
    ],
)
def test_valid_key_is_identified_by_its_hash(authorization: str, key: str) -> None:
    client = KEYS.authenticate(authorization_header(authorization.encode()))
    assert client is not None
    assert client.key_hash == key_hash(key)


def test_principal_has_the_limits_of_its_key() -> None:
    assert KEYS.authenticate(authorization_header("Bearer sk-zwei-ü".encode())) == Principal(
        key_hash("sk-zwei-ü"), 3, 0.5
    )
    assert KEYS.authenticate(authorization_header(b"Bearer sk-one")) == Principal(
        key_hash("sk-one"), None, None
    )


@pytest.mark.parametrize(
    "authorization",
    [None, b"", b"Bearer", b"Bearer ", b"sk-one", b"Basic sk-one", b"Bearer sk-on", b"Bearer \xff",
     b"Bearer sk-one,sk-two", b"Bearer sk-oneBearer sk-one"],
)  # fmt: skip
def test_invalid_authorization_is_rejected(authorization: bytes | None) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        KEYS.authenticate(authorization_header(authorization))
    error = caught.value
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert (b"www-authenticate", b"Bearer") in error.headers
    assert "sk-" not in error.message


def test_error_for_a_missing_key_explains_the_header() -> None:
    with pytest.raises(NotAuthenticated, match="Authorization: Bearer"):
        KEYS.authenticate([])


def test_without_keys_every_caller_is_accepted() -> None:
    for authorization in (None, b"Bearer anything", b"\xff"):
        assert ApiKeys([]).authenticate(authorization_header(authorization)) is None


PAGE = b"https://chat.example.org"
OPEN = ApiKeys([], origins=[PAGE.decode()])
PRIVATE = ApiKeys([], origins=[PAGE.decode()], is_private=True)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"localhost:8080", None),
        (b"LOCALHOST", None),
        (b"127.0.0.1:8080", b"http://127.0.0.1:8080"),
        (b"[::1]:8080", b"http://[::1]:8080"),
        (b"localhost:8080", PAGE),
        (None, None),  # HTTP/1.0
    ],
)
def test_without_keys_own_and_configured_origins_are_accepted(
    host: bytes | None, origin: bytes | None
) -> None:
    headers = [(b"host", host)] if host else []
    headers += [(b"origin", origin)] if origin else []
    assert PRIVATE.authenticate(headers) is None
    assert OPEN.authenticate(headers) is None


@pytest.mark.parametrize(
    "origin",
    [b"http://localhost:3000", b"https://evil.example", b"null", b"", PAGE + b":444", b"http://"],
)
def test_without_keys_other_origins_are_rejected(origin: bytes) -> None:
    headers = [(b"host", b"localhost:8080"), (b"origin", origin or b"file://")]
    for keys in (OPEN, PRIVATE):
        with pytest.raises(Forbidden, match="may not use this proxy") as caught:
            keys.authenticate(headers)
        assert caught.value.status == 403


def test_without_keys_cross_site_fetches_are_rejected() -> None:
    """Browsers send no origin for images, for example."""
    headers = [(b"host", b"localhost:8080"), (b"sec-fetch-site", b"cross-site")]
    with pytest.raises(Forbidden):
        PRIVATE.authenticate(headers)
    assert (
        PRIVATE.authenticate([(b"host", b"localhost:8080"), (b"sec-fetch-site", b"none")]) is None
    )


def test_dns_rebinding_is_rejected() -> None:
    """The browser takes the page for the same origin."""
    headers = [(b"host", b"evil.example:8080"), (b"origin", b"http://evil.example:8080")]
    with pytest.raises(Forbidden, match=r"Host 'evil\.example:8080' is not allowed"):
        PRIVATE.authenticate(headers)
    assert OPEN.authenticate(headers) is None  # a public proxy may have any host name


def test_with_keys_host_and_origin_are_ignored() -> None:
    headers = [
        *authorization_header(b"Bearer sk-one"),
        (b"host", b"proxy"),
        (b"origin", b"https://evil.example"),
    ]
    assert KEYS.authenticate(headers) is not None


# Guessing at the login.


def test_wrong_guesses_slow_an_address_down() -> None:
    now = [0.0]
    limiter = LoginLimiter(guesses=3, seconds_per_guess=10.0, clock=lambda: now[0])
    for _ in range(3):
        assert limiter.seconds_left("10.0.0.1") == 0
        limiter.count_wrong_guess("10.0.0.1")
    assert limiter.seconds_left("10.0.0.1") == 10
    assert limiter.seconds_left("10.0.0.2") == 0
    now[0] = 10.0
    assert limiter.seconds_left("10.0.0.1") == 0
    limiter.count_wrong_guess("10.0.0.1")
    assert limiter.seconds_left("10.0.0.1") == 10
    now[0] = 1000.0
    for _ in range(2):
        limiter.count_wrong_guess("10.0.0.1")
    assert limiter.seconds_left("10.0.0.1") == 0


def test_a_host_with_many_ipv6_addresses_counts_once() -> None:
    limiter = LoginLimiter(guesses=2, clock=lambda: 0.0)
    for number in range(2):
        limiter.count_wrong_guess(f"2001:db8::{number}%eth0")
    assert limiter.seconds_left("2001:db8::ffff") > 0
    assert limiter.seconds_left("2001:db8:0:1::") == 0


def test_the_number_of_remembered_addresses_is_bounded() -> None:
    limiter = LoginLimiter(guesses=1, max_addresses=10, clock=lambda: 0.0)
    for number in range(100):
        limiter.count_wrong_guess(f"10.0.0.{number}")
    assert [n for n in range(100) if limiter.seconds_left(f"10.0.0.{n}")] == list(range(90, 100))


def test_the_session_is_found_among_any_number_of_cookies() -> None:
    value = KEYS.log_in("sk-one", []).encode()
    for cookie in (
        b"hybrid_llm_session=" + value,
        b"a=b; hybrid_llm_session=" + value + b"; c=d",
        b";" * 30_000 + b"hybrid_llm_session=" + value,
        b"x_hybrid_llm_session=1;hybrid_llm_session=" + value,
    ):
        principal = KEYS.read_session([(b"cookie", b"a=b"), (b"cookie", cookie)])
        assert principal is not None
        assert principal.key_hash == key_hash("sk-one")
    for cookie in (
        b"x_hybrid_llm_session=" + value,
        b"hybrid_llm_session=" + b"1" * 30_000,
        b"\xff",
    ):
        assert KEYS.read_session([(b"cookie", cookie)]) is None


def test_reading_empty_cookies_takes_little_time() -> None:
    headers = [(b"cookie", b"; " * 16_000)]
    since = time.process_time()
    for _ in range(100):
        assert KEYS.read_session(headers) is None
    assert time.process_time() - since < 0.5
