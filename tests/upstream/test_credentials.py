"""What a tier's server gets besides the request: credentials, headers and the base URL's query."""

import base64
from collections.abc import Callable
from typing import Any

from fakes import Call, FakeUpstream, whole
from live import CLOUD_KEY, StartProxy

SECRET = "s3cr:t ü"
BASIC = "Basic " + base64.b64encode(f"bob:{SECRET}".encode()).decode()
LOGIN = {"basic_auth": {"username": "bob", "password": SECRET}, "api_key": None}


def record(upstream: FakeUpstream, calls: list[Call], body: bytes) -> Callable[[Call], Any]:
    def answer(call: Call) -> Any:
        calls.append(call)
        return whole(body)

    return answer


async def all_kinds_of_calls(
    start: StartProxy, cloud: FakeUpstream, settings: dict[str, Any]
) -> list[Call]:
    """The requests that the cloud gets: probes, a routed one, and one that is passed through."""
    probes: list[Call] = []
    cloud.models = record(cloud, probes, b'{"object":"list","data":[]}')
    proxy = await start({"upstreams": {"cloud": settings}})
    given = {"authorization": "Bearer of-the-client", "openai-beta": "client", "user-agent": "sdk"}
    assert (await proxy.chat(model="cloud", headers=given)).status_code == 200
    answer = await proxy.client.post("/v1/moderations?a=1", json={"input": "x"}, headers=given)
    assert answer.status_code == 200
    assert (await proxy.client.get("/v1/models")).status_code == 200
    assert probes
    assert len(cloud.calls) == 2
    return [*probes, *cloud.calls]


async def test_basic_auth_is_sent_with_every_request(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    calls = await all_kinds_of_calls(start, cloud, LOGIN)
    assert {call.header("authorization") for call in calls} == {BASIC}


async def test_headers_are_sent_with_every_request_instead_of_the_clients(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    headers = {"X-Api-Gateway": SECRET, "OpenAI-Beta": "ours", "User-Agent": "ours", "X-Empty": ""}
    calls = await all_kinds_of_calls(start, cloud, {"headers": headers})
    for call in calls:
        assert call.header("x-api-gateway") == SECRET.encode().decode("latin-1")
        assert call.header("openai-beta") == call.header("user-agent") == "ours"
        assert call.header("x-empty") is None
        assert call.header("authorization") == f"Bearer {CLOUD_KEY}"


async def test_a_header_may_be_the_login(start: StartProxy, cloud: FakeUpstream) -> None:
    settings = {"headers": {"Authorization": "Token 12345678901234"}, "api_key": "none"}
    calls = await all_kinds_of_calls(start, cloud, settings)
    assert {call.header("authorization") for call in calls} == {"Token 12345678901234"}


async def test_the_query_of_a_base_url_is_sent_with_every_request(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    """As for Azure: the version of the API is in the query, and the key in a header."""
    deployed = cloud.base_url + "/openai/deployments/gpt?api-version=2024-10-21"
    settings = {"base_url": deployed, "headers": {"api-key": SECRET}, "api_key": None}
    cloud.answer = lambda call: whole(b'{"object":"list","data":[]}')
    proxy = await start({"upstreams": {"cloud": settings}})
    answer = await proxy.client.post("/v1/moderations?a=1&Api-Version=9", json={"input": "x"})
    assert answer.status_code == 200
    assert (await proxy.client.get("/v1/models")).status_code == 200
    assert {call.path.removeprefix("/v1/openai/deployments/gpt") for call in cloud.calls} == {
        "/moderations?api-version=2024-10-21&a=1",
        "/models?api-version=2024-10-21",
    }
    for call in cloud.calls:
        assert call.header("api-key") == SECRET.encode().decode("latin-1")
        assert call.header("authorization") is None
