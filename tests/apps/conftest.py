"""Fixtures of the applications' tests, which run on the stage of tests/clients."""

import os
from collections.abc import Callable

import pytest
from driver import Saved, measure
from scene import Stage

# The stage's proxies differ in their local model: by its name, the variable with the address.
BASE_URLS = {"qwen3:8b": "OPENAI_BASE_URL", "phi3:latest": "PHI3_OPENAI_BASE_URL"}


@pytest.fixture
def stage() -> Stage:
    stage = Stage(os.environ["STAGE_URL"])
    stage.forget()
    return stage


@pytest.fixture
def base_url() -> str:
    """The proxy whose local model has tools and a long context."""
    return os.environ["OPENAI_BASE_URL"]


@pytest.fixture(params=BASE_URLS)
def local_model(request: pytest.FixtureRequest) -> str:
    """Each local model."""
    return str(request.param)


@pytest.fixture
def model_url(local_model: str) -> str:
    """The proxy with this local model."""
    return os.environ[BASE_URLS[local_model]]


@pytest.fixture(params=["plain", "shown"])
def variant(request: pytest.FixtureRequest) -> str:
    """The settings: those that connect an application, or all that the document shows."""
    return str(request.param)


@pytest.fixture
def saves(
    stage: Stage,
    record_property: Callable[[str, object], None],
    local_model: str,
    variant: str,
) -> Callable[[Callable[[str], object]], Saved]:
    """A function that does the ten tasks, and records for the table what was saved.

    It gets what the application does for one task, which includes the requests that it makes later.
    """

    def do_tasks(ask: Callable[[str], object]) -> Saved:
        saved = measure(ask, stage)
        record_property(f"{variant} {local_model}", saved)
        return saved

    return do_tasks
