"""The network settings of the environment: which proxy, and which certificates."""

import os
import ssl
from pathlib import Path

import pytest

from outbound import CERTIFICATE_VARIABLES, NETWORK_VARIABLES
from proxy.config import ConfigError
from proxy.upstream.environment import environment_proxy, trusted_certificates


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def proxy_of(url: str) -> str | None:
    proxy = environment_proxy(url)
    return None if proxy is None else str(proxy.url)


# Proxies.


@pytest.mark.parametrize(
    ("variables", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://one:1"}, "http://one:1", None),
        ({"HTTPS_PROXY": "http://one:1"}, None, "http://one:1"),
        ({"ALL_PROXY": "http://one:1"}, "http://one:1", "http://one:1"),
        ({"all_proxy": "http://one:1"}, "http://one:1", "http://one:1"),
        ({"ALL_PROXY": "http://one:1", "https_proxy": "http://two:2"}, "http://one:1", "http://two:2"),
        ({"HTTPS_PROXY": "http://one:1", "https_proxy": "http://two:2"}, None, "http://two:2"),
        ({"HTTPS_PROXY": ""}, None, None),
    ],
)  # fmt: skip
def test_the_scheme_of_the_url_chooses_the_variable(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], http: str | None, https: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (proxy_of("http://gpu:1/v1"), proxy_of("https://gpu/v1")) == (http, https)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128/", "http://proxy:3128/"),
        ("https://proxy:3128", "https://proxy:3128"),
        ("127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("proxy", "http://proxy"),
        (" proxy:3128 ", "http://proxy:3128"),
        ("socks5://proxy:1080", "socks5://proxy:1080"),
        ("socks5h://proxy:1080", "socks5h://proxy:1080"),
        ("socks://proxy:1080", "socks5://proxy:1080"),
        ("SOCKS5://proxy:1080", "socks5://proxy:1080"),
    ],
)
def test_kinds_of_proxies(monkeypatch: pytest.MonkeyPatch, value: str, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert proxy_of("https://gpu/v1") == url


def test_the_login_of_a_proxy_is_unescaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "bob:s3cr%3At%40@proxy:3128")
    proxy = environment_proxy("https://gpu/v1")
    assert proxy is not None
    assert proxy.auth == ("bob", "s3cr:t@")
    assert "s3cr" not in repr(proxy)


UNSUPPORTED = "not supported; use http://, https://, socks5:// or socks5h://"
NO_ADDRESS = (
    "is not the address of a proxy, such as http://proxy.example.org:3128; "
    "special characters of a password are written as %40"
)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("HTTPS_PROXY", "socks4://hunter2@proxy:1080", f"socks4 proxies are {UNSUPPORTED}"),
        ("https_proxy", "ftp://proxy", f"ftp proxies are {UNSUPPORTED}"),
        ("ALL_PROXY", "hunter2hunter2://proxy", f"its kind is {UNSUPPORTED}"),
        ("all_proxy", "http://", NO_ADDRESS),
        ("HTTPS_PROXY", "http://bob:hunter2#@proxy:3128", NO_ADDRESS),
        ("HTTPS_PROXY", "http://proxy:hunter2", NO_ADDRESS),
    ],
)
def test_an_unusable_proxy_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as raised:
        environment_proxy("https://gpu/v1")
    assert str(raised.value) == f"{name}: {problem}"
    assert environment_proxy("https://localhost/v1") is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("example.org", "https://example.org/v1", True),
        ("example.org", "https://gpu.EXAMPLE.org/v1", True),
        ("example.org", "https://gpu.example.org./v1", True),
        ("example.org", "https://notexample.org/v1", False),
        (".example.org", "https://gpu.example.org/v1", True),
        ("*.example.org", "https://gpu.example.org/v1", True),
        ("*.example.org", "https://example.com/v1", False),
        ("other, gpu", "https://gpu/v1", True),
        ("gpu:8443", "https://gpu:8443/v1", True),
        ("gpu:443", "https://gpu/v1", True),
        ("gpu:8443", "https://gpu/v1", False),
        ("*", "https://gpu/v1", True),
        ("10.1.2.3", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://10.1.2.3:8443/v1", True),
        ("10.0.0.7/8", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/v1", True),
        ("fd00::/8", "https://[fd00::1]/v1", True),
        ("[fd00::1]", "https://[fd00::1]/v1", True),
        ("fd00::1", "https://[fd00::1]:8443/v1", True),
        ("fd00::2", "https://[fd00::1]/v1", False),
        ("", "https://gpu/v1", False),
    ],
)
def test_no_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, is_direct: bool
) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (environment_proxy(url) is None) == is_direct


# Certificates.


def subjects(context: ssl.SSLContext) -> set[str]:
    """The common names of the certificates that are loaded."""
    return {
        value
        for certificate in context.get_ca_certs()
        for part in certificate["subject"]
        for name, value in part
        if name == "commonName"
    }


def test_without_a_variable_the_systems_certificates_are_trusted() -> None:
    assert subjects(trusted_certificates()) == subjects(ssl.create_default_context())


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_replaces_the_systems_certificates(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, name: str
) -> None:
    monkeypatch.setenv(name, str(certificate))
    assert subjects(trusted_certificates()) == {"gpu.test"}


def test_the_bundle_of_requests_comes_first(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nothing")
    assert subjects(trusted_certificates()) == {"gpu.test"}


def test_certificates_of_openssls_variables_and_a_bundle_are_trusted(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, other_certificate: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(other_certificate))
    assert subjects(trusted_certificates()) == {"other.test"}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert subjects(trusted_certificates()) == {"gpu.test", "other.test"}


@pytest.mark.parametrize("name", CERTIFICATE_VARIABLES)
def test_certificates_that_cannot_be_read_are_refused_with_their_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for value, problem in (
        ("/nothing.pem", "/nothing.pem cannot be read: No such file or directory"),
        (str(broken), f"{broken} has no certificates in PEM format"),
    ):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError) as raised:
            trusted_certificates()
        assert str(raised.value) == f"{name}: {problem}"


@pytest.mark.parametrize("name", CERTIFICATE_VARIABLES)
def test_a_folder_of_certificates_is_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    value = f"/nothing{os.pathsep}{tmp_path}" if name == "SSL_CERT_DIR" else str(tmp_path)
    monkeypatch.setenv(name, value)
    trusted_certificates()
