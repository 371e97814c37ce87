"""What tests of clients share: where the proxy is, and what its upstreams were asked.

They run on the stage (`stage.py`), in environments where the proxy is not installed. A test's name
begins with the feature it shows, its file's with the client; `table.py` reads both.
"""

import importlib.util
import os

import pytest
from scene import Stage

# Each of two environments has the clients that go with its OpenAI client. curl is of neither, and
# once is enough.
NEEDS = {
    "test_curl.py": "langchain_openai",
    "test_instructor.py": "instructor",
    "test_langchain.py": "langchain_openai",
    "test_litellm.py": "litellm",
    "test_llama_index.py": "llama_index",
    "test_llm.py": "llm",
    "test_pydantic_ai.py": "pydantic_ai",
}
collect_ignore = [name for name, need in NEEDS.items() if not importlib.util.find_spec(need)]
collect_ignore.append("node")

# No client may ask anybody else: not for prices, not for word lists, and it reports to nobody.
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
    """A tier, as the model that a client names."""
    return request.param
