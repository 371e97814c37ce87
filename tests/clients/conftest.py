"""Fixtures of the client tests: the proxy's address, and the calls of its upstreams.

The tests run on the stage (`stage.py`), in environments without the proxy. The name of a test
starts with its feature, the name of its file with the client; `table.py` reads both.
"""

import importlib.util
import os
from collections.abc import Callable

import pytest
from scene import Stage

# Each of the two environments has the clients that are compatible with its OpenAI client. curl runs
# in one of them only.
NEEDS = {
    "test_agents.py": "agents",
    "test_anthropic.py": "anthropic",
    "test_curl.py": "langchain_openai",
    "test_dspy.py": "dspy",
    "test_instructor.py": "instructor",
    "test_langchain.py": "langchain_openai",
    "test_langchain_ollama.py": "langchain_ollama",
    "test_langgraph.py": "langgraph",
    "test_litellm.py": "litellm",
    "test_llama_index.py": "llama_index",
    "test_llm.py": "llm",
    "test_ollama.py": "ollama",
    "test_pydantic_ai.py": "pydantic_ai",
    "test_smolagents.py": "smolagents",
    "test_smolagents_tools.py": "smolagents",
}
collect_ignore = [name for name, package in NEEDS.items() if not importlib.util.find_spec(package)]
collect_ignore.append("node")

# Clients must not connect to other servers, for price lists or telemetry.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "true",
    "DO_NOT_TRACK": "1",
}


@pytest.fixture
def stage() -> Stage:
    stage = Stage(os.environ["STAGE_URL"])
    stage.forget()
    return stage


@pytest.fixture
def base_url() -> str:
    return os.environ["OPENAI_BASE_URL"]


@pytest.fixture(params=["local", "cloud"])
def tier(request: pytest.FixtureRequest) -> str:
    """A tier, as the model name that a client sends."""
    return request.param


@pytest.fixture
def measure(
    stage: Stage, record_property: Callable[[str, object], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[str], object]], None]:
    """A function that does the ten tasks with a client, with each local model in turn.

    It gets what the client does for one task, and records the requests that reached the tiers for
    the table. The client takes its address from the environment.
    """

    def do_tasks(ask: Callable[[str], object]) -> None:
        record_property("saved", stage.measure(ask))
        for name in [name for name in os.environ if name.startswith("PHI3_")]:
            monkeypatch.setenv(name.removeprefix("PHI3_"), os.environ[name])
        record_property("saved_phi3", stage.measure(ask))

    return do_tasks
