"""Experiments page in a real browser: steps, jobs, logs, results and hostile data."""

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
    """A proxy with the shipped results and a scripted pipeline."""
    return await start(folders.config(results=str(DATA / "results")), command=COMMAND)


@pytest.fixture
def open_page(proxy: LiveProxy, show: Show) -> Open:
    async def open_experiments(**settings: Any) -> Page:
        page = await show(proxy.origin, "/experiments", **settings)
        await expect(page.locator("#results")).to_have_attribute(
            "aria-busy", "false", timeout=PATIENCE_MS
        )
        return page

    return open_experiments


def step(page: Page, name: str) -> Locator:
    return page.locator(f"[data-step='{name}']")


async def run(page: Page, name: str) -> None:
    await step(page, name).get_by_role("button", name="Run").click()


def expect_text(where: Locator, text: str | re.Pattern[str]) -> Awaitable[None]:
    return expect(where).to_contain_text(text, timeout=PATIENCE_MS)


async def table(page: Page, name: str) -> dict[str, list[str]]:
    """The cells of a table's rows, by the text of the first cell."""
    rows = page.get_by_role("table", name=name).locator("tbody tr")
    table_cells = {}
    for row in await rows.all():
        head, *cells = await row.locator("th, td").all_inner_texts()
        table_cells[head] = [" ".join(cell.split()) for cell in cells]
    return table_cells


# ── Results ───────────────────────────────────────────────────────────────────────────────────


async def test_steps_are_listed_with_their_estimates_and_headlines(open_page: Open) -> None:
    page = await open_page()
    titles = await page.locator(".step h3").all_inner_texts()
    assert titles == [
        "1 Baseline benchmark", "2 Judge validation", "3 Label", "4 Train",
        "5 Feature-only ablation", "6 Baselines", "7 Evaluate", "8 Error analysis", "9 Report",
    ]  # fmt: skip
    at = shipped("evaluation")["in_distribution"]["at_threshold"]
    await expect_text(step(page, "evaluate"), f"{at['pgr']:.0%} of the quality gap")
    await expect_text(step(page, "evaluate"), "not run here")
    await expect_text(step(page, "evaluate"), "about 60 s · free")
    await expect_text(step(page, "benchmark"), re.compile(r"about \d+ min · about \$0\.\d+"))
    await expect_text(page.locator("#caveat"), "Says nothing about open chat")


async def test_tables_match_the_result_files(open_page: Open) -> None:
    page = await open_page()
    inside = shipped("baselines")["parts"]["in distribution"]["baselines"]
    rows = await table(page, "Router and baselines, in distribution")
    assert rows.keys() == inside.keys()
    for name, row in inside.items():
        if "auroc_local" in row:
            value, low, high = row["auroc_local"]
            assert rows[name][0] == f"{value:.3f} [{low:.3f}, {high:.3f}]"
        assert rows[name][3] == f"{row['quality']:.2f}"
    await page.locator("#found-baselines label", has_text="zeroeval-gsm").click()
    other = shipped("baselines")["parts"]["zeroeval-gsm"]["baselines"]["router"]
    rows = await table(page, "Router and baselines, zeroeval-gsm")
    assert rows["router"][3] == f"{other['quality']:.2f}"
    ablations = await table(page, "Ablations of the router")
    parts = shipped("ablation")["parts"]["in distribution"]["baselines"]
    assert ablations["features only"][0].startswith(
        f"{parts['features + LR']['auroc_local'][0]:.3f}"
    )
    wrong = await table(page, "Wrong decisions by source")
    rates = shipped("errors")["sources"]["all"]
    assert wrong["all"][2].startswith(f"{100 * rates['false local'][0]:.1f}%")
    figures = await table(page, "Evaluation metrics")
    assert figures["APGR"][0].startswith(
        f"{shipped('evaluation')['in_distribution']['apgr'][0]:.3f}"
    )


async def test_charts_match_the_result_files(open_page: Open) -> None:
    page = await open_page()
    curve = page.get_by_role("img", name=re.compile("^Quality against cost"))
    await expect(curve.locator(".main-svg").first).to_be_visible(timeout=PATIENCE_MS)
    drawn = await curve.evaluate("element => element.data.map(({name, x, y}) => ({name, x, y}))")
    evaluation = shipped("evaluation")
    assert drawn[0]["x"] == evaluation["curve"]["cost_share"]
    assert drawn[0]["y"] == evaluation["curve"]["quality"]
    assert drawn[-1]["y"] == [evaluation["in_distribution"]["at_threshold"]["quality"]]
    calibration = page.get_by_role("img", name=re.compile("^Observed frequency"))
    drawn = await calibration.evaluate("element => element.data.map(({y}) => y)")
    assert drawn[1] == evaluation["reliability"]["p_local"]["observed"]


async def test_mistakes_are_shown_with_their_prompts(open_page: Open) -> None:
    page = await open_page()
    examples = shipped("errors")["examples"]
    for kind in ("false local", "false cloud"):
        await page.locator("#found-examples label", has_text=kind).click()
        prompts = page.get_by_role("list", name=f"Mistakes: {kind}").locator("li p:last-child")
        texts = [" ".join(text.split()) for text in await prompts.all_inner_texts()]
        assert texts == [" ".join(example["text"].split()) for example in examples[kind]]


async def test_missing_results_name_the_step_to_run(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await expect_text(page.locator("#found-benchmark"), "No results yet. Run Baseline benchmark.")
    await expect_text(page.locator("#found-validate-judge"), "No results yet")


async def test_live_results_are_drawn_when_present(
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
    await expect_text(page.locator("#found-benchmark"), "recovers 0.55 [0.40, 0.70]")
    assert (await table(page, "Quality by category"))["all"][1] == "8.25 [8.00, 8.50]"
    assert (await table(page, "Agreement of judge and human scores"))["Kappa, good or not"] == [
        "0.75 [0.60, 0.85]"
    ]
    assert (await table(page, "Files of labelled prompts"))["mine.labelled.jsonl"] == [
        "1", "8.00", "9.00", "0", "1", "0", "$0.5000",
    ]  # fmt: skip


async def test_unreadable_result_file_affects_its_own_card_only(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    folders.results.mkdir()
    (folders.results / "evaluation.json").write_text('{"in_distribution": 3}')
    (folders.results / "errors.json").write_text(json.dumps(shipped("errors")))
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await expect_text(page.locator("#found-evaluate"), "from another version")
    assert (await table(page, "Wrong decisions by source"))["all"][0] == "1,421"


# ── Jobs ──────────────────────────────────────────────────────────────────────────────────────


async def test_running_step_shows_progress_and_log_after_a_reload(
    open_page: Open, folders: Folders
) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    await run(page, "evaluate")
    evaluate = step(page, "evaluate")
    for attempt in ("first", "reloaded"):
        await expect_text(evaluate, "running")
        await expect_text(evaluate, "scoring: 1/4")
        bar = evaluate.get_by_role("progressbar")
        await expect(bar).to_have_attribute("value", "0.25", timeout=PATIENCE_MS)
        await expect_text(page.locator("#current"), "Evaluate is running · 25%")
        await expect_text(page.get_by_role("log"), "scoring: 1/4, about 0.1 min left\n")
        await expect(step(page, "errors").get_by_role("button", name="Run")).to_be_disabled()
        if attempt == "first":
            await page.reload()
    folders.go_on()
    await expect_text(page.get_by_role("log"), "scoring: 4/4")
    await expect_text(evaluate, "done")
    await expect_text(evaluate, re.compile(r"just now, took 0:\d\d"))
    await expect(page.locator("#current")).to_be_hidden()
    await expect_text(page.get_by_role("status"), "Evaluate is done.")
    log = await page.get_by_role("log").inner_text()
    assert log.count("scoring: 1/4") == log.count("scoring: 4/4") == 1  # no duplicates
    await expect(step(page, "errors").get_by_role("button", name="Run")).to_be_enabled()


async def test_new_results_are_drawn_when_a_step_is_done(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    evaluation = folders.results / "evaluation.json"
    source = str(DATA / "results" / "evaluation.json")
    at = shipped("evaluation")["in_distribution"]["at_threshold"]
    recovered = f"{at['pgr'] * 100:.0f}"
    folders.program(
        "evaluate", f"import shutil\nshutil.copy({source!r}, {str(evaluation)!r})\nprint('wrote')"
    )
    folders.results.mkdir()
    proxy = await start(folders.config(), command=COMMAND)
    page = await show(proxy.origin, "/experiments")
    await expect_text(step(page, "evaluate"), "not run here")
    await run(page, "evaluate")
    found = page.locator("#found-evaluate")
    await expect_text(found, f"recovers {recovered}% of the quality gap")
    await expect_text(step(page, "evaluate"), f"{recovered}% of the quality gap")


async def test_running_step_can_be_cancelled(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    await run(page, "evaluate")
    evaluate = step(page, "evaluate")
    await expect_text(evaluate, "scoring: 1/4")
    await evaluate.get_by_role("button", name="Cancel").click()
    await expect_text(evaluate, "cancelled")
    await expect(evaluate.get_by_role("button", name="Run")).to_be_enabled()


async def test_failed_step_shows_its_last_line_and_log(open_page: Open, folders: Folders) -> None:
    folders.program("errors", "print('reading'); print('Error: no rows'); raise SystemExit(3)")
    page = await open_page()
    await run(page, "errors")
    await expect_text(step(page, "errors"), "failed")
    await expect_text(step(page, "errors"), "Exit status 3. Error: no rows")
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("log")).to_be_hidden()
    await step(page, "errors").get_by_role("button", name="Log").click()
    await expect_text(page.get_by_role("log"), "reading\nError: no rows\n")


async def test_step_runs_with_the_chosen_parameters(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    evaluate = step(page, "evaluate")
    await evaluate.get_by_text("Parameters").click()
    await evaluate.get_by_label("Rows").select_option("validation")
    await evaluate.get_by_label("Router model").select_option("candidate")
    await run(page, "evaluate")
    await expect_text(evaluate, "scoring: 1/4")
    arguments, _, _ = json.loads((folders.work / "told.json").read_text())
    assert arguments[arguments.index("--split") + 1] == "validation"
    assert arguments[arguments.index("--model") + 1].endswith("candidate")
    await expect_text(page.locator("#log-state"), "split: validation · model: candidate")
    folders.go_on()
    await expect_text(evaluate, "done")


async def test_invalid_parameter_is_reported_at_the_step(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    proxy = await start(folders.config(results=str(DATA / "results")), command=COMMAND)
    page = await show(proxy.origin, "/experiments", expected=("400",))
    benchmark = step(page, "benchmark")
    await benchmark.get_by_text("Parameters").click()
    await benchmark.get_by_label("Tokens per answer").fill("5")
    await run(page, "benchmark")
    await expect_text(
        benchmark.get_by_role("alert"), "Tokens per answer: must be from 64 to 16384."
    )
    await expect(page.locator("#confirm")).to_be_hidden()


async def test_paid_step_asks_for_a_spending_limit(
    proxy: LiveProxy, open_page: Open, folders: Folders
) -> None:
    folders.program("baseline", WAITING)
    page = await open_page()
    await run(page, "benchmark")
    dialog = page.get_by_role("dialog")
    estimate = (
        await proxy.client.post("/api/experiments/benchmark", json={"dry_run": True})
    ).json()["estimate"]
    await expect_text(dialog, f"{estimate['calls']} model calls")
    await expect_text(dialog, f"about ${estimate['usd']:.4f}")
    await check_accessible(page)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert (await proxy.client.get("/api/jobs")).json()["jobs"] == []
    await run(page, "benchmark")
    await dialog.get_by_role("button", name="Cancel").click()
    assert (await proxy.client.get("/api/jobs")).json()["jobs"] == []
    await run(page, "benchmark")
    await dialog.get_by_label("Spending limit").fill("0.01")  # below the estimate
    await dialog.get_by_role("button", name="Run").click()
    await expect(dialog).to_be_visible()
    await dialog.get_by_label("Spending limit").fill("0.5")
    await dialog.get_by_role("button", name="Run").click()
    await expect_text(step(page, "benchmark"), "scoring: 1/4")
    arguments, _, _ = json.loads((folders.work / "told.json").read_text())
    assert arguments[arguments.index("--max-usd") + 1] == "0.500000"


async def test_missing_extra_shows_the_install_command(proxy: LiveProxy, show: Show) -> None:
    page = await show(
        proxy.origin, "/experiments", permissions=["clipboard-read", "clipboard-write"]
    )
    await expect_text(page.locator("#extra"), INSTALL_COMMAND)
    await page.get_by_role("button", name="Copy command").click()
    await expect_text(page.locator("#extra"), "Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == INSTALL_COMMAND
    for name in ("train", "ablation", "baselines"):
        await expect(step(page, name).get_by_role("button", name="Run")).to_be_disabled()
        await expect_text(step(page, name), "needs the train extra")
    # One notice says it for all steps, and what can be done without it.
    await expect(page.get_by_text("The train extra is not installed")).to_have_count(0)
    await expect_text(page.locator("#extra"), "Results can be read")
    await expect_text(page.locator("#found-train"), "Validation of the serving model")
    await expect_text(
        page.locator("#found-baselines"), "TF-IDF + LR"
    )  # results are shown without the extra


async def test_job_started_elsewhere_is_shown(
    proxy: LiveProxy, open_page: Open, folders: Folders
) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    await proxy.client.post("/api/experiments/evaluate", json={})
    await expect_text(step(page, "evaluate"), "scoring: 1/4")
    folders.go_on()
    await expect_text(step(page, "evaluate"), "done")


async def test_long_log_scrolls_along_unless_the_user_scrolled_up(
    open_page: Open, folders: Folders
) -> None:
    folders.program("evaluate", "for i in range(3000): print('line', i)\n" + WAITING)
    page = await open_page()
    await run(page, "evaluate")
    log = page.get_by_role("log")
    await expect_text(log, "scoring: 1/4")
    rest = "element => element.scrollHeight - element.scrollTop - element.clientHeight"
    await page.wait_for_function(f"({rest})(document.querySelector('#log-text')) < 24")
    await log.evaluate("element => { element.scrollTop = 10 }")
    folders.go_on()
    await expect_text(log, "scoring: 4/4")
    assert await log.evaluate("element => element.scrollTop") == 10
    await page.get_by_role("button", name="Jump to end").click()
    assert await log.evaluate(rest) < 24


async def test_unreachable_proxy_is_reported(
    start: StartProxy, folders: Folders, show: Show
) -> None:
    proxy = await start(folders.config(), command=COMMAND)
    folders.program("evaluate", WAITING)
    page = await show(proxy.origin, "/experiments", expected=("ERR_CONNECTION_REFUSED",))
    await run(page, "evaluate")
    await expect_text(step(page, "evaluate"), "scoring: 1/4")
    await proxy.stop()
    await expect_text(page.locator("#trouble"), "Cannot reach the proxy")


# ── Security and accessibility ────────────────────────────────────────────────────────────────


async def test_hostile_text_from_data_is_inert(
    start: StartProxy, folders: Folders, show: Show
) -> None:
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
    await expect_text(step(page, "evaluate"), EVIL)
    await expect_text(page.get_by_role("log"), EVIL)
    await expect_text(page.locator("#found-examples"), EVIL)
    await expect_text(page.locator("#found-baselines"), EVIL)
    assert await page.evaluate("window.evil") is None
    assert await page.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_experiments_page_is_accessible(
    open_page: Open, folders: Folders, scheme: str
) -> None:
    folders.program("errors", "print('no'); raise SystemExit(1)")
    folders.program("evaluate", WAITING)
    page = await open_page(color_scheme=scheme)
    for summary in await page.locator("summary:visible").all():
        await summary.click()
    await check_accessible(page)
    await run(page, "errors")
    await expect_text(step(page, "errors"), "failed")
    await run(page, "evaluate")
    await expect_text(step(page, "evaluate"), "scoring: 1/4")
    await check_accessible(page)


async def test_running_step_fits_a_phone(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", f"print({'x' * 3000!r})\n" + WAITING)
    page = await open_page(viewport=PHONE)
    await run(page, "evaluate")
    await expect_text(step(page, "evaluate"), "scoring: 1/4")
    for summary in await page.locator("summary:visible").all():
        await summary.click()
    assert await fits_its_width(page)


async def test_steps_work_with_the_keyboard_only(open_page: Open, folders: Folders) -> None:
    folders.program("evaluate", WAITING)
    page = await open_page()
    evaluate = step(page, "evaluate")
    await evaluate.locator("summary").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("v")  # selects validation
    await expect(evaluate.get_by_label("Rows")).to_have_value("validation")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await expect(evaluate.get_by_role("button", name="Run")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect_text(evaluate, "scoring: 1/4")
    cancel = evaluate.get_by_role("button", name="Cancel")
    await expect(cancel).to_be_focused()  # Cancel takes the place of Run
    await page.keyboard.press("Enter")
    await expect_text(evaluate, "cancelled")
    await expect(evaluate.get_by_role("button", name="Run")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("log")).to_be_focused()
