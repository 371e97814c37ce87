"""Base URLs as people write them, and the URLs below them."""

import pytest

from proxy.addresses import clean_base_url, is_this_machine, join_url, without_version


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("http://gpu:11434/v1", "http://gpu:11434/v1"),
        ("http://gpu:11434/v1/", "http://gpu:11434/v1"),
        ("http://gpu:11434//v1", "http://gpu:11434/v1"),
        ("http://gpu:11434", "http://gpu:11434/v1"),
        ("http://gpu:11434/", "http://gpu:11434/v1"),
        ("http://gpu:11434/v1/v1", "http://gpu:11434/v1"),
        ("http://gpu:11434/v1//v1/", "http://gpu:11434/v1"),
        ("http://gpu:11434/v1/chat/completions", "http://gpu:11434/v1"),
        ("HTTP://GPU.Example.ORG:11434/v1", "http://gpu.example.org:11434/v1"),
        ("http://[FE80::1]:11434", "http://[fe80::1]:11434/v1"),
        ("https://gateway/ollama", "https://gateway/ollama"),
        ("https://gateway/Api//V1", "https://gateway/Api/V1"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
        ("https://x/v1beta/openai/", "https://x/v1beta/openai"),
        ("https://api.perplexity.ai", "https://api.perplexity.ai"),
        (
            "https://x.openai.azure.com/openai/deployments/My%20Gpt?api-version=2024-10-21",
            "https://x.openai.azure.com/openai/deployments/My%20Gpt?api-version=2024-10-21",
        ),
        ("https://x/?api-version=1", "https://x/v1?api-version=1"),
        ("localhost:11434", "localhost:11434"),  # invalid, and refused as it is written
        ("http://[::1/v1", "http://[::1/v1"),
        ("http://gpu\n", "http://gpu\n"),
    ],
)
def test_usual_mistakes_are_corrected(written: str, used: str) -> None:
    assert clean_base_url(written) == used
    assert clean_base_url(used) == used


@pytest.mark.parametrize(
    ("base_url", "path", "url"),
    [
        ("http://x/v1", "/models", "http://x/v1/models"),
        ("http://x/v1", "/files?limit=2", "http://x/v1/files?limit=2"),
        ("http://x/v1?a=1", "/models", "http://x/v1/models?a=1"),
        (
            "http://x/v1?a=1&b=2",
            "/files?limit=2&after=f",
            "http://x/v1/files?a=1&b=2&limit=2&after=f",
        ),
        ("http://x/v1?a=1", "/files?a=7&%41=8&b=9&", "http://x/v1/files?a=1&b=9"),
    ],
)
def test_the_query_of_a_base_url_follows_the_path(base_url: str, path: str, url: str) -> None:
    assert join_url(base_url, path) == url


def test_the_server_is_above_the_version() -> None:
    assert without_version("http://x/v1?a=/v1") == "http://x?a=/v1"
    assert without_version("http://x/ollama") == "http://x/ollama"


HERE = (
    "localhost LOCALHOST localhost. ollama.localhost 127.0.0.1 127.8.9.1 0.0.0.0 :: ::1 "
    "::ffff:127.0.0.1 ::ffff:0.0.0.0 host.docker.internal host.containers.internal"
).split()
ELSEWHERE = (
    "localhost.example.org mylocalhost example.org 128.0.0.1 10.0.0.1 ::2 fe80::1 "
    "::ffff:10.0.0.1 docker.internal"
).split()


@pytest.mark.parametrize("host", [*HERE, *ELSEWHERE])
def test_this_machine_has_many_names(host: str) -> None:
    assert is_this_machine(host) == (host in HERE)
