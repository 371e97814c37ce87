"""The page of experiments in a browser: what it shows, starts, ends, and cannot be made to do."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from browser import PATIENCE_MS, check_accessible, fits_its_width
from live import LiveProxy, StartProxy
from pages.conftest import Show
from pipeline import COMMAND, DATA, WAITING, Folders
from proxy.experiments.planner import INSTALL_COMMAND

PHONE = {"width": 390, "height": 844}
EVIL = "<img src=x onerror=window.evil=1><script>window.evil=1</script>"

Open = Callable[..., Awaitable[Page]]


def shipped(name: str) -> Any:
    return json.loads((DATA / "results" / f"{name}.json").read_text())


@pytest.fixture
def folders(tmp_path: Any) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
async def proxy(start: StartProxy, folders: Folders) -> LiveProxy:
    """With the results that are shipped, and a pipeline that does as the test says."""
    return await start(folders.config(results=str(DATA / "results")), command=COMMAND)


@pytest.fixture
def open_page(proxy: LiveProxy, show: Show) -> Open:
    async def open_it(**settings: Any) -> Page:
        page = await show(proxy.origin, "/experiments", **settings)
        await expect(page.locator("#results")).to_have_attribute(
            "aria-busy", "false", timeout=PATIENCE_MS
        )
        return page

    return open_it


def step(page: Page, name: str) -> Locator:
    return page.locator(f"[data-step='{name}']")


async def run(page: Page, name: str) -> None:
    await step(page, name).get_by_role("button", name="Run").click()


def says(where: Locator, text: str | re.Pattern[str]) -> Awaitable[None]:
    return expect(where).to_contain_text(text, timeout=PATIENCE_MS)


async def table(page: Page, name: str) -> dict[str, list[str]]:
    """A table's rows by their first cells."""
    rows = page.get_by_role("table", name=name).locator("tbody tr")
    found = {}
    for row in await rows.all():
        head, *cells = await row.locator("th, td").all_inner_texts()
        found[head] = [" ".join(cell.split()) for cell in cells]
    return found


# ── What it shows ─────────────────────────────────────────────────────────────────────────────


async def test_the_steps_stand_in_order_with_what_they_found(open_page: Open) -> None:
    page = await open_page()
    titles = await page.locator(".step h3").all_inner_texts()
    assert titles == [
        "1 Baseline benchmark", "2 Judge validation", "3 Label", "4 Train",
        "5 Feature-only ablation", "6 Baselines", "7 Evaluate", "8 Error analysis", "9 Report",
    ]  # fmt: skip
    at = shipped("evaluation")["in_distribution"]["at_threshold"]
    await says(step(page, "evaluate"), f"{at['pgr']:.0%} of the quality gap")
    await says(step(page, "evaluate"), "never run here")
    await says(step(page, "evaluate"), "about 60 s · free")
    await says(step(page, "benchmark"), re.compile(r"about \d+ min · about \$0\.\d+"))
    await says(page.locator("#caveat"), "Says nothing about open chat")


async def test_the_tables_hold_what_the_files_do(open_page: Open) -> None:
    page = await open_page()
    inside = shipped("baselines")["parts"]["in distribution"]["baselines"]
    shown = await table(page, "The router and everything simpler, in distribution")
    assert shown.keys() == inside.keys()
    for name, row in inside.items():
        if "auroc_local" in row:
            value, low, high = row["auroc_local"]
            assert shown[name][0] == f"{value:.3f} [{low:.3f}, {high:.3f}]"
        assert shown[name][3] == f"{row['quality']:.2f}"
    await page.locator("#found-baselines label", has_text="zeroeval-gsm").click()
    other = shipped("baselines")["parts"]["zeroeval-gsm"]["baselines"]["router"]
    shown = await table(page, "The router and everything simpler, zeroeval-gsm")
    assert shown["router"][3] == f"{other['quality']:.2f}"
    left = await table(page, "What is left of the router without its network")
    parts = shipped("ablation")["parts"]["in distribution"]["baselines"]
    assert left["features alone"][0].startswith(f"{parts['features + LR']['auroc_local'][0]:.3f}")
    wrong = await table(page, "Shares of wrong decisions by source")
    rates = shipped("errors")["sources"]["all"]
    assert wrong["all"][2].startswith(f"{100 * rates['false local'][0]:.1f} %")
    figures = await table(page, "Figures of the evaluation")
    assert figures["APGR"][0].startswith(
        f"{shipped('evaluation')['in_distribution']['apgr'][0]:.3f}"
    )


async def test_the_charts_hold_what_the_files_do(open_page: Open) -> None:
    page = await open_page()
    curve = page.get_by_role("img", name=re.compile("^Quality against cost"))
    await expect(curve.locator(".main-svg").first).to_be_visible(timeout=PATIENCE_MS)
    drawn = await curve.evaluate("one => one.data.map(({name, x, y}) => ({name, x, y}))")
    found = shipped("evaluation")
    assert drawn[0]["x"] == found["curve"]["cost_share"]
    assert drawn[0]["y"] == found["curve"]["quality"]
    assert drawn[-1]["y"] == [found["in_distribution"]["at_threshold"]["quality"]]
    calibration = page.get_by_role("img", name=re.compile("^How often it came true"))
    drawn = await calibration.evaluate("one => one.data.map(({y}) => y)")
    assert drawn[1] == found["reliability"]["p_local"]["observed"]


async def test_the_mistakes_are_shown_with_their_texts(open_page: Open) -> None:
    page = await open_page()
    examples = shipped("errors")["examples"]
    for kind in ("false local", "false cloud"):
        await page.locator("#found-examples label", has_text=kind).click()
        shown = page.get_by_role("list", name=f"Mistakes: {kind}").locator("li p:last-child")
        texts = [" ".join(text.split()) for text in await shown.all_inner_texts()]
        assert texts == [" ".join(one["text"].split()) for one in examples[kind]]


async def test_where_nothing_was_measured_it_says_so(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await says(page.locator("#found-benchmark"), "Nothing measured yet: run Baseline benchmark.")
    await says(page.locator("#found-validate-judge"), "Nothing measured yet")


async def test_live_results_are_drawn_once_they_are_there(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    quality = {"local": [5.5, 5.0, 6.0], "cloud": [8.25, 8.0, 8.5], "router": [7.0, 6.5, 7.5]}
    figures = {"questions": 80, "quality": quality, "pgr": [0.55, 0.4, 0.7], "cost_share": 0.5}
    models = {"local": "phi3", "cloud": "gpt-4o-mini", "router": "auto", "judge": "gpt-4o"}
    folders.results.mkdir()
    (folders.results / "baseline.json").write_text(
        json.dumps({"overall": figures, "categories": {"math": figures}, "models": models})
    )
    interval = [0.75, 0.6, 0.85]
    names = ("spearman", "kappa_ok", "kappa_quadratic", "same_side_of_ok", "judge_minus_human")
    (folders.results / "judge.json").write_text(
        json.dumps({"n": 40, "questions": 20} | dict.fromkeys(names, interval))
    )
    (folders.data / "mine.labelled.jsonl").write_text(
        json.dumps({"local_score": 8, "cloud_score": 9, "preference": "tie", "judge_usd": 0.5})
    )
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await says(page.locator("#found-benchmark"), "recovers 0.55 [0.40, 0.70]")
    assert (await table(page, "Quality by category"))["all"][1] == "8.25 [8.00, 8.50]"
    assert (await table(page, "Agreement of the judge with people"))["Kappa, good or not"] == [
        "0.75 [0.60, 0.85]"
    ]
    assert (await table(page, "Files of labelled prompts"))["mine.labelled.jsonl"] == [
        "1", "8.00", "9.00", "0", "1", "0", "$0.5000",
    ]  # fmt: skip


async def test_results_of_another_version_cost_their_own_card_only(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    folders.results.mkdir()
    (folders.results / "evaluation.json").write_text('{"in_distribution": 3}')
    (folders.results / "errors.json").write_text(json.dumps(shipped("errors")))
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await says(page.locator("#found-evaluate"), "not of this version")
    assert (await table(page, "Shares of wrong decisions by source"))["all"][0] == "1,421"


# ── Running a step ────────────────────────────────────────────────────────────────────────────


async def test_a_step_runs_with_progress_and_log_and_a_reload_keeps_it(
    open_page: Open, folders: Folders
) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    await run(page, "evaluate")
    evaluate = step(page, "evaluate")
    for attempt in ("first", "reloaded"):
        await says(evaluate, "running")
        await says(evaluate, "scoring: 1/4")
        bar = evaluate.get_by_role("progressbar")
        await expect(bar).to_have_attribute("value", "0.25", timeout=PATIENCE_MS)
        await says(page.locator("#current"), "Evaluate is running · 25 %")
        await says(page.get_by_role("log"), "scoring: 1/4, about 0.1 min left\n")
        await expect(step(page, "errors").get_by_role("button", name="Run")).to_be_disabled()
        if attempt == "first":
            await page.reload()
    folders.go_on()
    await says(page.get_by_role("log"), "scoring: 4/4")
    await says(evaluate, "done")
    await says(evaluate, re.compile(r"just now, took 0:\d\d"))
    await expect(page.locator("#current")).to_be_hidden()
    await says(page.get_by_role("status"), "Evaluate is done.")
    log = await page.get_by_role("log").inner_text()
    assert log.count("scoring: 1/4") == log.count("scoring: 4/4") == 1  # nothing twice
    await expect(step(page, "errors").get_by_role("button", name="Run")).to_be_enabled()


async def test_new_results_are_drawn_when_a_step_is_done(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    evaluation = folders.results / "evaluation.json"
    source = str(DATA / "results" / "evaluation.json")
    folders.program(
        "evaluate", f"import shutil\nshutil.copy({source!r}, {str(evaluation)!r})\nprint('wrote')"
    )
    folders.results.mkdir()
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await says(step(page, "evaluate"), "never run here")
    await run(page, "evaluate")
    await says(page.locator("#found-evaluate"), "recovers 68 % of the quality gap")
    await says(step(page, "evaluate"), "68% of the quality gap")


async def test_a_step_is_cancelled(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    await run(page, "evaluate")
    evaluate = step(page, "evaluate")
    await says(evaluate, "scoring: 1/4")
    await evaluate.get_by_role("button", name="Cancel").click()
    await says(evaluate, "cancelled")
    await expect(evaluate.get_by_role("button", name="Run")).to_be_enabled()


async def test_a_failure_is_shown_with_its_last_words_and_log(
    open_page: Open, folders: Folders
) -> None:
    folders.program("errors", "print('reading'); print('Error: no rows'); raise SystemExit(3)")
    page = await open_page()
    await run(page, "errors")
    await says(step(page, "errors"), "failed")
    await says(step(page, "errors"), "Exit status 3. Error: no rows")
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("log")).to_be_hidden()
    await step(page, "errors").get_by_role("button", name="Log").click()
    await says(page.get_by_role("log"), "reading\nError: no rows\n")


async def test_what_was_chosen_is_what_runs(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    evaluate = step(page, "evaluate")
    await evaluate.get_by_text("Parameters").click()
    await evaluate.get_by_label("Rows").select_option("validation")
    await evaluate.get_by_label("Router model").select_option("candidate")
    await run(page, "evaluate")
    await says(evaluate, "scoring: 1/4")
    arguments, _, _ = json.loads((folders.work / "told.json").read_text())
    assert arguments[arguments.index("--split") + 1] == "validation"
    assert arguments[arguments.index("--model") + 1].endswith("candidate")
    await says(page.locator("#log-state"), "split: validation · model: candidate")
    folders.go_on()
    await says(evaluate, "done")


async def test_what_cannot_be_chosen_is_said_beside_it(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    proxy = await start(folders.config(results=str(DATA / "results")), command=COMMAND)
    page = await show(proxy.origin, "/experiments", expected=("400",))
    benchmark = step(page, "benchmark")
    await benchmark.get_by_text("Parameters").click()
    await benchmark.get_by_label("Tokens per answer").fill("5")
    await run(page, "benchmark")
    await says(benchmark.get_by_role("alert"), "Tokens per answer: from 64 to 16384.")
    await expect(page.locator("#confirm")).to_be_hidden()


async def test_a_paid_step_asks_for_its_dollars(
    proxy: LiveProxy, open_page: Open, folders: Folders
) -> None:
    folders.program("baseline", WAITING)
    page = await open_page()
    await run(page, "benchmark")
    dialog = page.get_by_role("dialog")
    estimate = (
        await proxy.client.post("/api/experiments/benchmark", json={"dry_run": True})
    ).json()["estimate"]
    await says(dialog, f"{estimate['calls']} times")
    await says(dialog, f"about ${estimate['usd']:.4f}")
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert (await proxy.client.get("/api/jobs")).json()["jobs"] == []
    await run(page, "benchmark")
    await dialog.get_by_role("button", name="Do not run").click()
    assert (await proxy.client.get("/api/jobs")).json()["jobs"] == []
    await run(page, "benchmark")
    await dialog.get_by_label("Spend at most").fill("0.01")  # less than it takes
    await dialog.get_by_role("button", name="Run and spend").click()
    await expect(dialog).to_be_visible()
    await dialog.get_by_label("Spend at most").fill("0.5")
    await dialog.get_by_role("button", name="Run and spend").click()
    await says(step(page, "benchmark"), "scoring: 1/4")
    arguments, _, _ = json.loads((folders.work / "told.json").read_text())
    assert arguments[arguments.index("--max-usd") + 1] == "0.500000"


async def test_where_the_extra_is_missing_the_command_is_there_to_copy(
    proxy: LiveProxy, show: Show
) -> None:
    page = await show(
        proxy.origin, "/experiments", permissions=["clipboard-read", "clipboard-write"]
    )
    await says(page.locator("#extra"), INSTALL_COMMAND)
    await page.get_by_role("button", name="Copy the command").click()
    await says(page.locator("#extra"), "Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == INSTALL_COMMAND
    for name in ("train", "ablation", "baselines"):
        await expect(step(page, name).get_by_role("button", name="Run")).to_be_disabled()
        await says(step(page, name), "The train extra is not installed")
    await says(page.locator("#found-baselines"), "TF-IDF + LR")  # results all the same


async def test_what_others_start_is_seen(
    proxy: LiveProxy, open_page: Open, folders: Folders
) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    await proxy.client.post("/api/experiments/evaluate", json={})
    await says(step(page, "evaluate"), "scoring: 1/4")
    folders.go_on()
    await says(step(page, "evaluate"), "done")


async def test_a_long_log_follows_its_end_unless_somebody_reads(
    open_page: Open, folders: Folders
) -> None:
    folders.program("evaluate", "for i in range(3000): print('line', i)\n" + WAITING)
    page = await open_page()
    await run(page, "evaluate")
    log = page.get_by_role("log")
    await says(log, "scoring: 1/4")
    rest = "one => one.scrollHeight - one.scrollTop - one.clientHeight"
    await page.wait_for_function(f"({rest})(document.querySelector('#log-text')) < 24")
    await log.evaluate("one => { one.scrollTop = 10 }")
    folders.go_on()
    await says(log, "scoring: 4/4")
    assert await log.evaluate("one => one.scrollTop") == 10
    await page.get_by_role("button", name="To the end").click()
    assert await log.evaluate(rest) < 24


async def test_a_proxy_that_is_gone_is_said(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    proxy = await start(folders.config(), command=COMMAND)
    folders.program("evaluate", WAITING)
    page = await show(proxy.origin, "/experiments", expected=("ERR_CONNECTION_REFUSED",))
    await run(page, "evaluate")
    await says(step(page, "evaluate"), "scoring: 1/4")
    await proxy.stop()
    await says(page.locator("#trouble"), "The proxy does not answer")


# ── What it cannot be made to do, and who can use it ──────────────────────────────────────────


async def test_text_from_data_stays_text(start: StartProxy, folders: Folders, show: Show) -> None:
    folders.results.mkdir()
    for name in ("errors", "evaluation", "baselines", "ablation", "robustness"):
        text = json.dumps(shipped(name))
        for word in ("mmlu-pro", "TF-IDF + LR", "typos, 3 % of letters", "The farm has 30 cows"):
            text = text.replace(word, EVIL)
        (folders.results / f"{name}.json").write_text(text)
    (folders.data / "prompts" / "a<img src=x onerror=window.evil=1>.txt").write_text("q")
    folders.program("evaluate", f"print({EVIL!r}); raise SystemExit(1)")
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await run(page, "evaluate")
    await says(step(page, "evaluate"), EVIL)
    await says(page.get_by_role("log"), EVIL)
    await says(page.locator("#found-examples"), EVIL)
    await says(page.locator("#found-baselines"), EVIL)
    assert await page.evaluate("window.evil") is None
    assert await page.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it(open_page: Open, folders: Folders, scheme: str) -> None:
    folders.program("errors", "print('no'); raise SystemExit(1)")
    folders.program("evaluate", WAITING)
    page = await open_page(color_scheme=scheme)
    for summary in await page.locator("summary:visible").all():
        await summary.click()
    await check_accessible(page)
    await run(page, "errors")
    await says(step(page, "errors"), "failed")
    await run(page, "evaluate")
    await says(step(page, "evaluate"), "scoring: 1/4")
    await check_accessible(page)


async def test_it_fits_a_phone_while_something_runs(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", f"print({'x' * 3000!r})\n" + WAITING)
    page = await open_page(viewport=PHONE)
    await run(page, "evaluate")
    await says(step(page, "evaluate"), "scoring: 1/4")
    for summary in await page.locator("summary:visible").all():
        await summary.click()
    assert await fits_its_width(page)


async def test_the_keyboard_is_enough(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    evaluate = step(page, "evaluate")
    await evaluate.locator("summary").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("v")  # for validation
    await expect(evaluate.get_by_label("Rows")).to_have_value("validation")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await expect(evaluate.get_by_role("button", name="Run")).to_be_focused()
    await page.keyboard.press("Enter")
    await says(evaluate, "scoring: 1/4")
    cancel = evaluate.get_by_role("button", name="Cancel")
    await expect(cancel).to_be_focused()  # what was pressed is gone, and this is in its place
    await page.keyboard.press("Enter")
    await says(evaluate, "cancelled")
    await expect(evaluate.get_by_role("button", name="Run")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("log")).to_be_focused()
