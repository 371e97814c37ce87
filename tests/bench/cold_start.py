"""One client asks while the local model is being loaded, with the limits of the configuration.

    make cold-start

The local server aborts a load when its client disconnects, as Ollama does. Its model loads for
LOAD_SECONDS, longer than FIRST_TOKEN_SECONDS. Prints a table for a server that lists its loaded
models, and for one that does not.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cold_servers import ColdServer
from fakes import Call, FakeUpstream, answer_json, chunked, openai_events, whole
from live import chat_body
from served import Served, ask

LOAD_SECONDS: Final = 40.0
FIRST_TOKEN_SECONDS: Final = 15.0
SCENE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5
PROMPT: Final = "What is 2+2?"
LOCAL_IF_IT_CAN: Final = {"x-router-threshold": "0.01"}  # with 0 requests wait for the load

SCENES: Final[dict[str, Callable[[ColdServer], None]]] = {
    "Ollama (lists loaded models)": ColdServer.speak_as_ollama,
    "no list of loaded models": lambda server: None,
}
LIMITS: Final = {
    "upstreams": {"local": {"timeouts": {"first_token": FIRST_TOKEN_SECONDS, "idle": 60}}}
}


def answer_cloud(call: Call) -> Any:
    return chunked(*openai_events()) if call.json.get("stream") else whole(answer_json())


async def play(speak: Callable[[ColdServer], None]) -> tuple[int, int, int, int]:
    """Requests, those that waited the whole timeout, aborted loads, local answers."""
    requests = timeouts = local_answers = 0
    with tempfile.TemporaryDirectory() as folder:
        async with FakeUpstream() as local, FakeUpstream() as cloud:
            server = ColdServer(local, seconds=LOAD_SECONDS)
            speak(server)
            cloud.answer = answer_cloud
            async with Served(Path(folder), local, cloud, changes=LIMITS) as proxy:
                end = time.monotonic() + SCENE_SECONDS
                while (started := time.monotonic()) < end:
                    body = chat_body(text=PROMPT, stream=True)
                    answer = await ask(proxy.port, body, headers=LOCAL_IF_IT_CAN)
                    requests += 1
                    timeouts += time.monotonic() - started >= FIRST_TOKEN_SECONDS
                    headers = answer.head.headers
                    # After hold_seconds the headers name the tier that was asked first.
                    is_held = time.monotonic() - started >= FIRST_TOKEN_SECONDS
                    local_answers += headers["x-router-target"] == "local" and not is_held
                    await asyncio.sleep(PAUSE_SECONDS)
                await proxy.stop()
            return requests, timeouts, server.aborted, local_answers


async def main() -> None:
    head = ("requests", "whole timeout", "loads aborted", "local answers")
    print(f"{'':<30}" + "".join(f"{name:>15}" for name in head))
    for name, speak in SCENES.items():
        print(f"{name:<30}" + "".join(f"{value:>15}" for value in await play(speak)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
