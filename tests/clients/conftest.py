"""Fixtures of the client tests: the proxy's address, and the calls of its upstreams.

The tests run on the stage (`stage.py`), in environments without the proxy. The name of a test
starts with its feature, the name of its file with the client; `table.py` reads both.
"""

import importlib.util
import os

import pytest
from scene import Stage

# Each of the two environments has the clients that are compatible with its OpenAI client. curl runs
# in one of them only.
NEEDS = {
    "test_curl.py": "langchain_openai",
    "test_instructor.py": "instructor",
    "test_langchain.py": "langchain_openai",
    "test_litellm.py": "litellm",
    "test_llama_index.py": "llama_index",
    "test_llm.py": "llm",
    "test_pydantic_ai.py": "pydantic_ai",
}
collect_ignore = [name for name, package in NEEDS.items() if not importlib.util.find_spec(package)]
collect_ignore.append("node")

# Clients must not connect to other servers, for price lists or telemetry.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
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
