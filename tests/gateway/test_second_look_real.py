"""The second look with a real local model: the demo's, behind llama.cpp's server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import needs
from fakes import FakeUpstream
from live import LiveProxy
from looks import UNCERTAIN, UncertainModel, verification
from proxy.cli.demo import DemoNotInstalled, find_model_file
from proxy.cli.stand_in import StandIn
from router_model.evidence import Evidence

MODEL = "smollm2-135m"
SECONDS = 120.0  # far longer than the few tokens take, on any machine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    try:
        model_file = find_model_file()
    except DemoNotInstalled:
        needs.give_up("xllamacpp")
    log = tmp_path_factory.mktemp("model") / "model.log"
    with StandIn(MODEL, model_file, log=log) as stand_in:
        stand_in.wait_until_ready()
        yield stand_in


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_evidence_of_a_real_server(
    tmp_path: Path, real_model: StandIn, cloud: FakeUpstream, streams: bool
) -> None:
    """It has log-probabilities and a second sample; the client sees only the text.

    A model of this size does not always answer the self-check with one of both words.
    """
    local = {"model": MODEL, "capabilities": ["tools", "json_schema", "logprobs"]}
    verify = {"second": MODEL, "self_check": True, "streams": "hold", "max_wait_seconds": SECONDS}
    changes = {"upstreams": {"local": local}, "verify": verify}
    combiner = verification(local_model=MODEL, second=MODEL, better=-20.0)
    model = UncertainModel(combiner)
    async with LiveProxy(
        tmp_path, real_model.base_url, cloud, changes=changes, model=model
    ) as proxy:
        async with asyncio.timeout(SECONDS):
            response = await proxy.client.post(
                "/v1/chat/completions",
                json={
                    "model": "auto",
                    "messages": [{"role": "user", "content": f"{UNCERTAIN} Answer briefly."}],
                    "stream": streams,
                    "max_tokens": 40,
                },
                timeout=SECONDS,
            )
        assert response.status_code == 200
        assert response.headers["x-router-target"] == "local"
        assert b"top_logprobs" not in response.content
        row = (await proxy.finish()).row
    assert row["second_look"] == "kept"
    evidence = Evidence.from_json(row["evidence"])
    assert evidence is not None
    assert evidence.second == MODEL
    assert evidence.mean_logprob is not None
    assert evidence.lowest_logprob is not None
    assert evidence.lowest_logprob <= evidence.mean_logprob <= 0
    assert evidence.self_check is None or 0 <= evidence.self_check <= 1
    assert evidence.tokens is not None
    assert evidence.tokens > 0
