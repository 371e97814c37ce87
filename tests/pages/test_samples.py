"""The samples of an empty chat, routed by the shipped router."""

from pathlib import Path

from live import StartProxy
from pages.conftest import Show

MODEL = Path(__file__).resolve().parents[2] / "data/models/router"


async def test_samples_go_half_to_each_tier_from_easy_to_hard(
    start: StartProxy, show: Show
) -> None:
    changes = {"routing": {"model_path": str(MODEL), "threshold": "auto"}}
    proxy = await start(changes, model="configured")
    page = await show(proxy.origin)
    await page.locator("#samples button").first.wait_for()
    samples = await page.locator("#samples button span:first-child").all_inner_texts()
    decisions = []
    for text in samples:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        decisions.append((await proxy.client.post("/api/decisions", json=body)).json())
    assert [decision["reason"] for decision in decisions] == ["score"] * 8
    assert [decision["target"] for decision in decisions] == ["local"] * 4 + ["cloud"] * 4
    for name in ("merit", "score"):
        values = [decision[name] for decision in decisions]
        assert values == sorted(values, reverse=True), name
    # Far enough from the threshold that other prices or a new calibration change nothing.
    margins = [abs(decision["merit"] - decision["threshold"]) for decision in decisions]
    assert min(margins) > 0.03
