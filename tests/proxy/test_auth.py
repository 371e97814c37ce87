"""API keys: who is let in, how much they may use, and that nothing tells what the keys are."""

import pytest

from proxy.auth import DAY_SECONDS, ApiKeys, Client, Quotas
from proxy.config import ApiKeyConfig, Secret
from proxy.errors import Forbidden, NotAuthenticated, RateLimited
from proxy.record import CallRecord, Target, key_hash

KEYS = ApiKeys(
    [
        ApiKeyConfig(key=Secret("sk-one")),
        ApiKeyConfig(key=Secret("sk-zwei-ü"), requests_per_minute=3, cloud_usd_per_day=0.5),
    ]
)


def sent(authorization: bytes | None) -> list[tuple[bytes, bytes]]:
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
def test_a_known_key_is_named_by_its_hash(authorization: str, key: str) -> None:
    client = KEYS.check(sent(authorization.encode()))
    assert client is not None
    assert client.key_hash == key_hash(key)


def test_a_key_brings_its_limits() -> None:
    assert KEYS.check(sent("Bearer sk-zwei-ü".encode())) == Client(key_hash("sk-zwei-ü"), 3, 0.5)
    assert KEYS.check(sent(b"Bearer sk-one")) == Client(key_hash("sk-one"), None, None)


@pytest.mark.parametrize(
    "authorization",
    [None, b"", b"Bearer", b"Bearer ", b"sk-one", b"Basic sk-one", b"Bearer sk-on", b"Bearer \xff",
     b"Bearer sk-one,sk-two", b"Bearer sk-oneBearer sk-one"],
)  # fmt: skip
def test_everything_else_is_refused(authorization: bytes | None) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        KEYS.check(sent(authorization))
    error = caught.value
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert (b"www-authenticate", b"Bearer") in error.headers
    assert "sk-" not in error.message


def test_a_missing_key_is_told_how_to_send_one() -> None:
    with pytest.raises(NotAuthenticated, match="Authorization: Bearer"):
        KEYS.check([])


def test_without_configured_keys_everyone_is_let_in() -> None:
    for authorization in (None, b"Bearer anything", b"\xff"):
        assert ApiKeys([]).check(sent(authorization)) is None


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
def test_without_keys_the_own_pages_and_the_named_ones_are_let_in(
    host: bytes | None, origin: bytes | None
) -> None:
    headers = [(b"host", host)] if host else []
    headers += [(b"origin", origin)] if origin else []
    assert PRIVATE.check(headers) is None
    assert OPEN.check(headers) is None


@pytest.mark.parametrize(
    "origin",
    [b"http://localhost:3000", b"https://evil.example", b"null", b"", PAGE + b":444", b"http://"],
)
def test_without_keys_other_pages_are_not(origin: bytes) -> None:
    headers = [(b"host", b"localhost:8080"), (b"origin", origin or b"file://")]
    for keys in (OPEN, PRIVATE):
        with pytest.raises(Forbidden, match="may not use this proxy") as caught:
            keys.check(headers)
        assert caught.value.status == 403


def test_without_keys_an_address_in_another_page_is_not_fetched() -> None:
    """As an image's, for which browsers send no origin."""
    headers = [(b"host", b"localhost:8080"), (b"sec-fetch-site", b"cross-site")]
    with pytest.raises(Forbidden):
        PRIVATE.check(headers)
    assert PRIVATE.check([(b"host", b"localhost:8080"), (b"sec-fetch-site", b"none")]) is None


def test_a_page_whose_name_leads_to_this_machine_is_not_let_in() -> None:
    """DNS rebinding: to the browser it is of the same origin."""
    headers = [(b"host", b"evil.example:8080"), (b"origin", b"http://evil.example:8080")]
    with pytest.raises(Forbidden, match=r"no 'evil\.example:8080' here"):
        PRIVATE.check(headers)
    assert OPEN.check(headers) is None  # others reach it under names that we do not know


def test_with_keys_the_key_alone_decides() -> None:
    headers = [*sent(b"Bearer sk-one"), (b"host", b"proxy"), (b"origin", b"https://evil.example")]
    assert KEYS.check(headers) is not None


# Quotas.


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


MIDNIGHT = 20_000 * DAY_SECONDS
THREE_A_MINUTE = Client("team", requests_per_minute=3)
HALF_A_DOLLAR = Client("team", cloud_usd_per_day=0.5)


def admitted(quotas: Quotas, client: Client, requests: int) -> int:
    count = 0
    for _ in range(requests):
        try:
            quotas.admit(client)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_minutes_requests_may_come_at_once_and_then_evenly() -> None:
    clock = Clock(MIDNIGHT)
    quotas = Quotas(clock=clock)
    assert admitted(quotas, THREE_A_MINUTE, 10) == 3
    clock.now += 19.9
    assert admitted(quotas, THREE_A_MINUTE, 10) == 0
    clock.now += 0.2
    assert admitted(quotas, THREE_A_MINUTE, 10) == 1
    clock.now += 3600  # more than a minute's worth is not saved up
    assert admitted(quotas, THREE_A_MINUTE, 10) == 3


def test_a_flow_at_the_limit_is_never_refused() -> None:
    clock = Clock(MIDNIGHT)
    quotas = Quotas(clock=clock)
    client = Client("team", requests_per_minute=7)
    assert admitted(quotas, client, 7) == 7
    for _ in range(1000):
        clock.now += 60 / 7
        assert admitted(quotas, client, 1) == 1


def test_a_refusal_says_how_long_to_wait() -> None:
    clock = Clock(MIDNIGHT)
    quotas = Quotas(clock=clock)
    admitted(quotas, THREE_A_MINUTE, 3)
    clock.now += 5.5
    with pytest.raises(RateLimited, match="3 requests a minute") as caught:
        quotas.admit(THREE_A_MINUTE)
    assert caught.value.seconds == pytest.approx(14.5)
    assert caught.value.headers == [(b"retry-after", b"15")]
    clock.now += 15
    quotas.admit(THREE_A_MINUTE)


def test_keys_do_not_use_up_each_others_requests() -> None:
    quotas = Quotas(clock=Clock(MIDNIGHT))
    assert admitted(quotas, THREE_A_MINUTE, 10) == 3
    assert admitted(quotas, Client("others", requests_per_minute=3), 10) == 3
    assert admitted(quotas, Client("free"), 1000) == 1000


def answered(cost_usd: float, at: float, *, key: str = "team") -> CallRecord:
    record = CallRecord("chat.completions")
    record.created_at, record.client_key_hash = at, key
    record.target, record.cost_usd = Target.CLOUD, cost_usd
    return record


def test_a_days_dollars_are_spent_by_the_clouds_answers_of_that_day() -> None:
    clock = Clock(MIDNIGHT + 100)
    quotas = Quotas(clock=clock)
    assert quotas.may_spend(HALF_A_DOLLAR)
    quotas.note(answered(0.3, clock.now))
    free = answered(1.0, clock.now)
    free.target = Target.LOCAL
    quotas.note(free)
    quotas.note(answered(1.0, clock.now, key="others"))
    assert quotas.may_spend(HALF_A_DOLLAR)
    quotas.note(answered(0.2, clock.now))
    assert not quotas.may_spend(HALF_A_DOLLAR)
    assert quotas.refusal(HALF_A_DOLLAR).seconds == DAY_SECONDS - 100
    clock.now = MIDNIGHT + DAY_SECONDS
    assert quotas.may_spend(HALF_A_DOLLAR)
    quotas.note(answered(9.0, MIDNIGHT + 200))  # begun yesterday, finished today
    assert quotas.may_spend(HALF_A_DOLLAR)


def test_what_was_spent_before_a_restart_counts() -> None:
    clock = Clock(MIDNIGHT + 100)
    quotas = Quotas(clock=clock)
    assert quotas.today() == MIDNIGHT
    quotas.note_others({"team": 0.5}, since=MIDNIGHT)
    assert not quotas.may_spend(HALF_A_DOLLAR)


def test_what_others_spend_counts_beside_what_is_counted_here() -> None:
    clock = Clock(MIDNIGHT + 100)
    quotas = Quotas(clock=clock)
    quotas.note(answered(0.125, clock.now))
    quotas.note_others({"team": 0.25, "others": 1.0, None: 2.0}, since=MIDNIGHT)
    assert quotas.spent_today() == 3.375
    assert quotas.may_spend(HALF_A_DOLLAR)
    quotas.note_others({"team": 0.375, "others": 1.0, None: 2.0}, since=MIDNIGHT)
    assert quotas.spent_today() == 3.5  # told anew, not once more
    assert not quotas.may_spend(HALF_A_DOLLAR)
    quotas.note_others({}, since=MIDNIGHT)  # a database that was emptied
    assert quotas.spent_today() == 3.5
    assert not quotas.may_spend(HALF_A_DOLLAR)


def test_what_others_spent_yesterday_is_over() -> None:
    clock = Clock(MIDNIGHT + 100)
    quotas = Quotas(clock=clock)
    quotas.note_others({"team": 1.0}, since=MIDNIGHT)
    clock.now += DAY_SECONDS
    assert quotas.may_spend(HALF_A_DOLLAR)
    quotas.note(answered(0.25, clock.now))
    quotas.note_others({"team": 9.0}, since=MIDNIGHT)  # read before midnight
    assert quotas.spent_today() == 0.25
    quotas.note_others({"team": 0.125}, since=MIDNIGHT + DAY_SECONDS)
    assert quotas.spent_today() == 0.375


def test_that_dollars_run_out_is_told_once_a_day() -> None:
    clock = Clock(MIDNIGHT + 100)
    quotas = Quotas(clock=clock)

    def told_after(usd: float) -> list[float | None]:
        quotas.note(answered(usd, clock.now))
        return [quotas.newly_spent(10.0) for _ in range(2)]

    assert told_after(7.5) == [None, None]
    assert told_after(1.0) == [0.8, None]
    assert told_after(1.0) == [None, None]
    assert told_after(1.0) == [1.0, None]
    clock.now += DAY_SECONDS
    assert told_after(50.0) == [1.0, None]  # both at once
    assert Quotas(clock=clock).newly_spent(0.0) is None


def test_no_dollars_at_all_is_a_limit_too() -> None:
    assert not Quotas().may_spend(Client("team", cloud_usd_per_day=0.0))
    assert Quotas().may_spend(Client("team"))
    assert Quotas().may_spend(None)
