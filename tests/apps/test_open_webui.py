"""Open WebUI: its real server, asked as its pages ask it."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from driver import (
    PATIENCE_SECONDS,
    QUIET,
    SHOWN_URL,
    Saved,
    executable,
    settings_of,
    wait_for_calls,
    wait_until,
)
from scene import TEXT, Stage
from tasks import HARD

from conftest import BASE_URLS

SAVING = ("TASK_MODEL_EXTERNAL", "DEFAULT_MODEL_PARAMS")
# No embedding model is loaded, and no other server is asked.
OFFLINE = {
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "OFFLINE_MODE": "true",
    "RAG_EMBEDDING_ENGINE": "openai",
    "WEBUI_SECRET_KEY": "secret",
}
BACKGROUND_TASKS = {
    "title_generation": True,
    "tags_generation": True,
    "follow_up_generation": True,
}
# A new chat, its title, tags and follow-ups.
CALLS = 1 + len(BACKGROUND_TASKS)


class OpenWebUI:
    """A running server, and the requests of its pages."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._token = ""

    def sign_up(self) -> None:
        """Register the first user, who is the administrator."""
        person = {"name": "Ada", "email": "ada@example.com", "password": "correct-horse"}
        self._token = self._send("POST", "/api/v1/auths/signup", person)["token"]

    @property
    def models(self) -> list[str]:
        return [model["id"] for model in self._send("GET", "/api/models")["data"]]

    def start_chat(self, text: str) -> dict[str, Any]:
        """Send the first message of a new chat; return its `chat_id` and `task_ids`."""
        question, answer = str(uuid.uuid4()), str(uuid.uuid4())
        message = {
            "id": question,
            "parentId": None,
            "childrenIds": [answer],
            "role": "user",
            "content": text,
            "timestamp": int(time.time()),
            "models": ["auto"],
        }
        body = {
            "stream": True,
            "model": "auto",
            "params": {"model_controls": {}},
            "tool_ids": [],
            "tool_servers": [],
            "features": {"image_generation": False, "code_interpreter": False, "web_search": False},
            "variables": {"{{USER_NAME}}": "Ada"},
            "session_id": f"session-{question}",
            "id": answer,
            "parent_id": None,
            "user_message": message,
            "background_tasks": BACKGROUND_TASKS,
        }
        started: dict[str, Any] = self._send("POST", "/api/chat/completions", body)
        return started

    def answer_of(self, chat_id: str) -> str:
        """Wait for the answer to a chat's first message; return its text."""

        def answers() -> list[str]:
            chat = self._send("GET", f"/api/v1/chats/{chat_id}")["chat"]
            messages = chat["history"]["messages"].values()
            return [message["content"] for message in messages if message.get("done")]

        wait_until(lambda: bool(answers()), "the answer is saved")
        return answers()[0]

    def stop(self, task_id: str) -> None:
        """Press the stop button."""
        self._send("POST", f"/api/tasks/stop/{task_id}")

    def is_up(self) -> bool:
        try:
            self._send("GET", "/health")
        except OSError:
            return False
        return True

    def _send(self, method: str, path: str, body: object = None) -> Any:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data=data, headers=headers, method=method
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)


@contextmanager
def serving(folder: Path, base_url: str, *, plain: bool) -> Iterator[OpenWebUI]:
    """A server with the document's settings, or only with those that connect it."""
    settings = settings_of("Open WebUI")
    if plain:
        settings = settings.without(*SAVING)
    shown = {
        name: value.replace(SHOWN_URL, base_url) for name, value in settings.environment.items()
    }
    port = unused_port()
    own = {"HOME": str(folder), "DATA_DIR": str(folder / "data"), "PATH": os.defpath}
    command = [executable("open-webui/bin/open-webui"), "serve", "--host", "127.0.0.1"]
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env={**own, **QUIET, **OFFLINE, **shown},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            application = OpenWebUI(f"http://127.0.0.1:{port}")

            def is_up() -> bool:
                assert process.poll() is None, (folder / "server.log").read_text()
                return application.is_up()

            wait_until(is_up, "Open WebUI starts")
            application.sign_up()
            yield application
        finally:
            process.send_signal(signal.SIGKILL)


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], OpenWebUI]]:
    """A function that returns the server of these settings and local model."""
    with ExitStack() as stack:
        running: dict[tuple[str, str], OpenWebUI] = {}

        def start(variant: str, local_model: str) -> OpenWebUI:
            if (variant, local_model) not in running:
                folder = tmp_path_factory.mktemp("open-webui")
                base_url = os.environ[BASE_URLS[local_model]]
                context = serving(folder, base_url, plain=variant == "plain")
                running[variant, local_model] = stack.enter_context(context)
            return running[variant, local_model]

        yield start


@pytest.fixture
def shown(server: Callable[[str, str], OpenWebUI]) -> OpenWebUI:
    """The server with the document's settings, and the default local model."""
    return server("shown", "phi3:latest")


def test_models(shown: OpenWebUI) -> None:
    assert {"auto", "local", "cloud"} <= set(shown.models)


def test_chat(shown: OpenWebUI, stage: Stage) -> None:
    started = shown.start_chat("What is the capital of Australia?")

    assert shown.answer_of(started["chat_id"]) == TEXT
    wait_for_calls(stage, CALLS)
    assert stage.tiers == ["local"] * CALLS
    assert not any(call.body.get("tools") for call in stage.calls)


def test_stream(shown: OpenWebUI, stage: Stage) -> None:
    started = shown.start_chat("What is the capital of Australia?")
    shown.answer_of(started["chat_id"])
    wait_for_calls(stage, CALLS)

    (chat,) = [call for call in stage.calls if call.body.get("stream")]
    assert chat.body["messages"][-1]["content"] == "What is the capital of Australia?"


def test_tools(server: Callable[[str, str], OpenWebUI], stage: Stage) -> None:
    """Its own tools, which it offers without the setting that leaves them out."""
    application = server("plain", "qwen3:8b")

    started = application.start_chat("CALL get_current_timestamp {}")

    assert application.answer_of(started["chat_id"]) == TEXT
    results = [
        message
        for call in stage.calls
        for message in call.body["messages"]
        if message["role"] == "tool"
    ]
    assert "current_timestamp" in results[0]["content"]


def test_cancel(shown: OpenWebUI, stage: Stage) -> None:
    started = shown.start_chat("HANG please")

    def streamed() -> list[int]:
        return [number for number, call in enumerate(stage.calls) if call.body.get("stream")]

    wait_until(lambda: bool(streamed()), "the chat's request arrives")
    shown.stop(started["task_ids"][0])

    stage.wait_until_released(streamed()[0])


def test_saved(
    server: Callable[[str, str], OpenWebUI],
    local_model: str,
    variant: str,
    stage: Stage,
    saves: Callable[[Callable[[str], object]], Saved],
) -> None:
    application = server(variant, local_model)

    def ask(task: str) -> None:
        application.answer_of(application.start_chat(task)["chat_id"])
        wait_for_calls(stage, CALLS)

    saved = saves(ask)

    if variant == "shown":
        assert "cloud" not in saved.easy
        assert saved.hard.count("cloud") == len(HARD)
