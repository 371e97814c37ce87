"""API keys: who is let in, and that nothing tells what the keys are."""

import pytest

from proxy.auth import ApiKeys
from proxy.config import Secret
from proxy.errors import NotAuthenticated
from proxy.record import key_hash

KEYS = ApiKeys([Secret("sk-one"), Secret("sk-zwei-ü")])


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
    assert KEYS.check(authorization.encode()) == key_hash(key)


@pytest.mark.parametrize(
    "authorization",
    [None, b"", b"Bearer", b"Bearer ", b"sk-one", b"Basic sk-one", b"Bearer sk-on", b"Bearer \xff",
     b"Bearer sk-one,sk-two", b"Bearer sk-oneBearer sk-one"],
)  # fmt: skip
def test_everything_else_is_refused(authorization: bytes | None) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        KEYS.check(authorization)
    error = caught.value
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert (b"www-authenticate", b"Bearer") in error.headers
    assert "sk-" not in error.message


def test_a_missing_key_is_told_how_to_send_one() -> None:
    with pytest.raises(NotAuthenticated, match="Authorization: Bearer"):
        KEYS.check(None)


def test_without_configured_keys_everyone_is_let_in() -> None:
    for authorization in (None, b"Bearer anything", b"\xff"):
        assert ApiKeys([]).check(authorization) is None
