"""Secrets: how the address of the database is shown, and which addresses are refused."""

import pytest

from proxy.config import StorageConfig
from proxy.secret import DatabaseUrl, Secret

PLACE = "127.0.0.1:5432/rows"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///data/router.db", "sqlite:///data/router.db"),
        (f"postgresql://u:geheim@{PLACE}", f"postgresql://u:***@{PLACE}"),
        (f"postgresql://u:ge%25he%40im:x@{PLACE}", f"postgresql://u:***@{PLACE}"),
        (f"postgresql://u:@{PLACE}", f"postgresql://u:***@{PLACE}"),
        (f"postgresql://u@{PLACE}", f"postgresql://u@{PLACE}"),
        (f"postgresql://{PLACE}", f"postgresql://{PLACE}"),
        ("postgresql:///rows", "postgresql:///rows"),
        ("postgresql://u:geheim@[::1]:5432/rows", "postgresql://u:***@[::1]:5432/rows"),
        ("postgresql://u:geheim@a:1,b:2/rows", "postgresql://u:***@a:1,b:2/rows"),
        (
            f"postgresql://u@{PLACE}?sslmode=verify-full&password=geheim&sslpassword=geheim",
            f"postgresql://u@{PLACE}?sslmode=verify-full&password=***&sslpassword=***",
        ),
        (
            "postgresql:///rows?host=/var/run/postgresql&passfile=/geheim",
            "postgresql:///rows?host=/var/run/postgresql&passfile=***",
        ),
        # Addresses that are refused are masked whole.
        (f"postgresql://u:ge%heim@{PLACE}", "postgresql://***"),
        (f"postgresql://u:ge/heim@{PLACE}", "postgresql://***"),
        ("postgres://u:geheim@h/rows", "***"),
        ("geheim", "***"),
    ],
)
def test_a_database_address_is_shown_without_its_passwords(url: str, shown: str) -> None:
    address = DatabaseUrl(url)
    assert str(address) == f"{address}" == shown
    assert repr(address) == f"DatabaseUrl({shown!r})"
    assert address.reveal() == url


def test_an_address_given_as_text_is_masked_too() -> None:
    config = StorageConfig(url=f"postgresql://u:geheim@{PLACE}")  # type: ignore[arg-type]
    assert "geheim" not in repr(config)
    assert isinstance(config.url, Secret)


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("Hunter2%Long", "the password must be escaped: write % as %25"),
        ("Hunter2%", "the password must be escaped: write % as %25"),
        ("Hunter2%00", "the password must be escaped: write % as %25"),
        ("Hun ter2Long", "the password must be escaped: write a space as %20"),
        ("Hun/ter2Long", "the password must be escaped: write / as %2F"),
        ("123/ter2Long", "the password must be escaped: write / as %2F"),
        ("Hun@ter2Long", "the password must be escaped: write @ as %40"),
        ("Hun[ter2Long", "the password must be escaped: write [ as %5B"),
        ("Hun]ter2Long", "the password must be escaped: write ] as %5D"),
        ("Hun?ter2Long", "the password must be escaped: write ? as %3F"),
        ("Hun#ter2Long", "the password must be escaped: write # as %23"),
        ("12/r?sslmode=a", "the password must be escaped: write / as %2F, ? as %3F"),
        (
            "p@ss:w/o#r?d",
            "the password must be escaped: write / as %2F, ? as %3F, # as %23, @ as %40",
        ),
        ("Hunter2\nLong", "has a line break or another control character"),
        ("Hunter2\x1b[2J", "has a line break or another control character"),
    ],
)
def test_an_unescaped_password_is_refused_by_its_place(password: str, problem: str) -> None:
    url = DatabaseUrl(f"postgresql://u:{password}@{PLACE}")
    assert url.problem() == problem
    assert str(url) == "postgresql://***"


def test_an_unescaped_user_name_or_parameter_is_refused_by_its_place() -> None:
    assert DatabaseUrl(f"postgresql://u/v:w@{PLACE}").problem() == (
        "the user name must be escaped: write / as %2F"
    )
    for value, rest in (("a%b", "% as %25"), ("a@b", "@ as %40"), ("a b", "a space as %20")):
        assert DatabaseUrl(f"postgresql://u@{PLACE}?password={value}").problem() == (
            f"the parameters after ? must be escaped: write {rest}"
        )


@pytest.mark.parametrize("char", list("!\"$&'()*+,-.:;<=>\\^_`{|}~äß"))
def test_a_password_may_have_any_other_character(char: str) -> None:
    url = DatabaseUrl(f"postgresql://u:Hun{char}ter2@{PLACE}")
    assert url.problem() is None
    assert str(url) == f"postgresql://u:***@{PLACE}"
