"""Self-calibration over a real database: when it fits, what it activates, and how it is undone."""

import asyncio
import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
from click.testing import CliRunner, Result

from fakes import PATIENCE_SECONDS, FakeUpstream
from judging import SHIPPED, TEXTS, change, configuration, judge
from live import LiveProxy
from proxy.cli.main import main
from proxy.config import load_config
from proxy.learning import LearningRecords, Models, changes_of, follow
from proxy.learning.fit import MIN_TESTED
from proxy.learning.policy import FIRST_PAIRS
from proxy.learning.records import EXPIRY_SECONDS
from proxy.learning.steps import progress_of
from proxy.storage import close_all, open_database
from router_model.manifest import HeadCalibration, Manifest
from stored import config_of, execute, fill, read

pytest_plugins = ["databases"]

JUDGED = 600
MODELS = Models("phi3:latest", "gpt-4o-mini", "")


@pytest.fixture(scope="module")
def judged_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with judged pairs, which each test copies."""
    path = tmp_path_factory.mktemp("judged") / "rows.db"
    judge(f"sqlite:///{path}", TEXTS[:JUDGED])
    return path


@pytest.fixture
def judged_url(judged_file: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(judged_file, tmp_path / 'rows.db')}"


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A copy of the shipped router that expects the least of the local model, so it ranks badly."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "used"))
    calibration = Manifest.load(folder).calibration
    local = HeadCalibration(temperature=calibration.local.temperature, bias=-4.0)
    change(folder, calibration=msgspec.structs.replace(calibration, local=local), threshold=0.179)
    return folder


def configured(folder: Path, url: str, model: Path, *, auto: str = "apply", **more: Any) -> Path:
    path = configuration(folder, url, model, **more)
    path.write_text(f"{path.read_text()}learning: {{auto: {auto}}}\n")
    return path


def learn(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["learn", *arguments, f"--config={config}"])


def state_of(config: Path) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["learn", f"--config={config}", "--json"])
    assert done.exit_code == 0, done.output
    state: dict[str, Any] = json.loads(done.stdout)
    return state


class OpenRecords(Protocol):
    def __call__(self, url: str, *, now: float | None = None) -> LearningRecords: ...


@pytest.fixture
def records_of() -> Iterator[OpenRecords]:
    """Opens the records of a database as a process of its own."""
    opened = []

    def open_records(url: str, *, now: float | None = None) -> LearningRecords:
        fill(url, [])  # migrates
        database = open_database(config_of(url))
        opened.append(database)
        return LearningRecords(database, worker="test", clock=lambda: now or time.time())

    yield open_records
    for database in opened:
        close_all(database)


# ── What a step activates ─────────────────────────────────────────────────────────────────────


def test_a_better_fit_is_activated_and_can_be_rolled_back(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    config, before = configured(tmp_path, judged_url, used), Manifest.load(used)
    assert state_of(config)["rollback"] is None
    done = learn(config, "step")
    assert done.exit_code == 0, done.output
    assert "Step 1, activated: better: recovers +0." in done.output
    after = Manifest.load(used)
    assert after.version.startswith(f"{before.version}+own.")
    previous = msgspec.json.decode((used / "manifest.previous.json").read_bytes(), type=Manifest)
    assert previous == before
    state = state_of(config)
    [step] = state["steps"]
    assert (step["decision"], step["version"], step["pairs"]) == (
        "activated",
        after.version,
        JUDGED,
    )
    assert 0 < step["low"] < step["difference"] < step["high"]
    assert step["level"] == pytest.approx(0.975)
    assert state["rollback"] == "hybrid-llm learn rollback"
    assert (state["new_pairs"], state["pairs_needed"]) == (0, JUDGED / 2)

    back = learn(config, "rollback")
    assert back.exit_code == 0, back.output
    assert Manifest.load(used) == before
    assert [step["decision"] for step in state_of(config)["steps"]] == ["rolled_back", "activated"]
    again = learn(config, "step")
    assert f"postponed: 0 of {MIN_TESTED} new requests" in again.output
    assert Manifest.load(used) == before
    nothing = learn(config, "rollback")
    assert nothing.exit_code == 1
    assert "was not activated by self-calibration" in nothing.output


def test_the_fit_spends_the_dollars_that_the_user_spent(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    config = configured(tmp_path, judged_url, used)
    assert learn(config, "step").exit_code == 0
    [step] = state_of(config)["steps"]
    manifest = Manifest.load(used)
    [point] = [p for p in manifest.thresholds if p.threshold == manifest.threshold]
    assert point.cost_share == pytest.approx(step["cost_share"], abs=0.02)
    assert 0.1 < step["cost_share"] < 0.9


def test_a_fit_that_is_not_better_is_rejected(judged_url: str, tmp_path: Path, used: Path) -> None:
    """The second fit is compared with the first one, and spends more of the error."""
    config = configured(tmp_path, judged_url, used)
    assert learn(config, "step").exit_code == 0
    before = Manifest.load(used)
    judge(judged_url, TEXTS[JUDGED : JUDGED + 300], seed=1)
    done = learn(config, "step")
    assert "Step 2, rejected: not shown to be better" in done.output
    assert "(99.17 %)" in done.output
    assert Manifest.load(used) == before


def test_a_suggestion_changes_nothing_until_it_is_applied(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    config, before = configured(tmp_path, judged_url, used, auto="suggest"), Manifest.load(used)
    assert learn(config, "apply").exit_code == 1
    done = learn(config, "step")
    assert "Step 1, suggested: better" in done.output
    assert Manifest.load(used) == before
    applied = learn(config, "apply")
    assert applied.exit_code == 0, applied.output
    assert Manifest.load(used).version == state_of(config)["steps"][1]["version"]
    assert learn(config, "rollback").exit_code == 0
    assert Manifest.load(used) == before


def test_a_fixed_threshold_is_not_replaced(judged_url: str, tmp_path: Path, used: Path) -> None:
    config, before = configured(tmp_path, judged_url, used, threshold=0.179), Manifest.load(used)
    assert any("only suggests" in warning for warning in load_config(config).warnings())
    assert "suggested" in learn(config, "step").output
    assert Manifest.load(used) == before


def test_a_router_that_spends_everything_is_not_tested(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    change(used, threshold=1.0)
    done = learn(configured(tmp_path, judged_url, used), "step")
    assert "postponed: the router spends 100% of the all-cloud dollars" in done.output


def test_a_router_that_was_replaced_meanwhile_stays(
    judged_url: str, tmp_path: Path, used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.learning import run

    fit = run.fit_and_test

    def replace(*args: Any, **options: Any) -> Any:
        change(used, version="by hand")
        return fit(*args, **options)

    monkeypatch.setattr(run, "fit_and_test", replace)
    done = learn(configured(tmp_path, judged_url, used), "step")
    assert "rejected" in done.output
    assert "meanwhile the router was replaced by by hand" in done.output
    assert Manifest.load(used).version == "by hand"


@pytest.mark.parametrize("command", [["step"], ["rollback"]])
def test_a_router_that_cannot_be_replaced_is_on_record(
    judged_url: str,
    tmp_path: Path,
    used: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    config = configured(tmp_path, judged_url, used)
    if command == ["rollback"]:
        assert learn(config, "step").exit_code == 0
    before = Manifest.load(used)
    monkeypatch.setattr("proxy.learning.activation.replace_calibration", fail)
    done = learn(config, *command)
    assert done.exit_code == 1
    assert "no space left" in done.output
    step = state_of(config)["steps"][0]
    assert (step["state"], step["decision"]) == ("failed", "rejected")
    assert Manifest.load(used) == before


def test_the_configuration_belongs_to_the_subcommand(tmp_path: Path) -> None:
    """Else the command would use the default one without a word."""
    done = CliRunner().invoke(main, ["learn", f"--config={tmp_path}/own.yaml", "rollback"])
    assert done.exit_code == 2
    assert "put --config after rollback" in done.output


def test_a_broken_router_is_a_failed_step(judged_url: str, tmp_path: Path, used: Path) -> None:
    (used / "tokenizer.json").write_text("{}")
    config = configured(tmp_path, judged_url, used)
    done = learn(config, "step")
    assert done.exit_code == 1
    assert "sha256" in done.output
    [step] = state_of(config)["steps"]
    assert step["state"] == "failed"
    assert "sha256" in step["why"]


# ── When a step is due, and who makes it ──────────────────────────────────────────────────────


def test_only_one_process_makes_a_step_that_is_due(url: str, records_of: OpenRecords) -> None:
    judge(url, TEXTS[: FIRST_PAIRS - 1])
    records, other = records_of(url), records_of(url)
    assert records.claim(MODELS, version="1") is None
    judge(url, TEXTS[FIRST_PAIRS - 1 : FIRST_PAIRS])
    step_id = records.claim(MODELS, version="1")
    assert step_id is not None
    assert other.claim(MODELS, version="1") is None
    assert other.claim(MODELS, version="1", is_forced=True) is None
    records.finish(step_id, decision="rejected", why="no better", figures={"pairs": FIRST_PAIRS})
    assert other.claim(MODELS, version="1") is None  # no new pairs
    assert other.claim(MODELS, version="1", is_forced=True) is not None


def test_a_step_that_another_process_has_made_meanwhile_is_not_repeated(
    url: str, records_of: OpenRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(url, TEXTS[:FIRST_PAIRS])
    records, other = records_of(url), records_of(url)
    count = records.new_pairs

    def count_slowly(models: Models, *, after: int) -> int:
        found = count(models, after=after)
        step_id = other.claim(MODELS, version="1")
        assert step_id is not None
        other.finish(step_id, decision="rejected", why="no better")
        return found

    monkeypatch.setattr(records, "new_pairs", count_slowly)
    assert records.claim(MODELS, version="1") is None
    assert len(records.steps()) == 1


def test_an_orphaned_step_is_replaced(url: str, records_of: OpenRecords) -> None:
    judge(url, TEXTS[:FIRST_PAIRS])
    assert records_of(url, now=1000.0).claim(MODELS, version="1") == 1
    late = records_of(url, now=1001.0 + EXPIRY_SECONDS)
    assert late.claim(MODELS, version="1", is_forced=True) == 2
    assert [step.state for step in late.steps()] == ["failed", "running"]


def test_after_a_change_only_pairs_of_the_present_models_count(
    url: str, records_of: OpenRecords
) -> None:
    judge(url, TEXTS[:50])
    records = records_of(url)
    assert records.record_models(MODELS, version="1") is None
    assert records.record_models(MODELS, version="1") is None
    assert records.new_pairs(MODELS, after=0) == 50
    changed = MODELS._replace(local="qwen3:8b")
    before = records.record_models(changed, version="1")
    assert before is not None
    assert before.models == MODELS
    progress = progress_of(records.steps(), changed)
    assert progress.needed == FIRST_PAIRS
    judge(url, TEXTS[50:70], seed=1)
    execute(url, "UPDATE judgements SET model = 'qwen3:8b' WHERE target = 'local' AND id > 120")
    assert records.new_pairs(changed, after=progress.after) == 10
    assert len(read(url, "SELECT * FROM learning_steps")) == 2


def test_pairs_of_a_model_in_another_spelling_count(url: str, records_of: OpenRecords) -> None:
    judge(url, TEXTS[:20])
    spelt = "CASE WHEN id > 20 THEN 'library/' ELSE 'Registry.Ollama.ai/library/' END || 'PHI3'"
    execute(url, f"UPDATE judgements SET model = {spelt} WHERE target = 'local'")
    assert records_of(url).new_pairs(MODELS, after=0) == 20
    execute(url, "UPDATE judgements SET model = 'me/phi3' WHERE target = 'local'")
    assert records_of(url).new_pairs(MODELS, after=0) == 0


def test_counting_new_pairs_reads_no_earlier_judgement(
    tmp_path: Path, records_of: OpenRecords, caplog: pytest.LogCaptureFixture
) -> None:
    """Every worker counts once a minute, for any number of judgements on record."""
    url = f"sqlite:///{tmp_path}/router.db"
    judge(url, TEXTS[:20])
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        assert records_of(url).new_pairs(MODELS, after=0) == 20
    [(query, values)] = [record.msg for record in caplog.records if "COUNT" in str(record.msg)]
    with closing(sqlite3.connect(tmp_path / "router.db")) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {query}", [*values]).fetchall()
    steps = [detail for *_, detail in plan if " t1 " in detail]
    assert steps
    assert not [detail for detail in steps if detail.startswith("SCAN")]


def test_another_machine_uses_what_was_activated(
    judged_url: str, tmp_path: Path, used: Path, records_of: OpenRecords
) -> None:
    """Not what was activated before it started, and not if it has a router of its own."""
    here = configured(tmp_path, judged_url, used)
    other = Path(shutil.copytree(used, tmp_path / "other"))
    own = Path(shutil.copytree(used, tmp_path / "own"))
    change(own, version="of its own")
    there = load_config(here)

    def at(folder: Path) -> Any:
        routing = msgspec.structs.replace(there.routing, model_path=str(folder))
        return msgspec.structs.replace(there, routing=routing)

    assert learn(here, "step").exit_code == 0
    records = records_of(judged_url)

    def followed(folder: Path, *known: int) -> frozenset[int]:
        return follow(records, at(folder), steps=records.steps(), known=frozenset(known))

    assert followed(other, 1) == {1}
    assert Manifest.load(other).version != Manifest.load(used).version
    assert followed(own) == {1}
    assert Manifest.load(own).version == "of its own"
    assert followed(other) == {1}
    assert Manifest.load(other) == Manifest.load(used)
    assert learn(here, "rollback").exit_code == 0
    assert followed(other, 1) == {1, 2}
    assert Manifest.load(other) == Manifest.load(used)


def test_a_fit_that_is_activated_late_is_followed(
    judged_url: str, tmp_path: Path, used: Path, records_of: OpenRecords
) -> None:
    """It got its number before this machine started, and was activated after that."""
    config = configured(tmp_path, judged_url, used)
    other = Path(shutil.copytree(used, tmp_path / "other"))
    records = records_of(judged_url)
    before = frozenset(step.id for step in changes_of(records.steps()))
    assert learn(config, "step").exit_code == 0
    there = load_config(config)
    routing = msgspec.structs.replace(there.routing, model_path=str(other))
    there = msgspec.structs.replace(there, routing=routing)
    follow(records, there, steps=records.steps(), known=before)
    assert Manifest.load(other) == Manifest.load(used)


# ── Beside a running proxy ────────────────────────────────────────────────────────────────────


async def test_a_running_proxy_calibrates_itself(
    judged_file: Path, tmp_path: Path, used: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(judged_file, tmp_path / "router.db")
    changes = {
        "routing": {"model_path": str(used), "threshold": "auto"},
        "learning": {"auto": "apply"},
    }
    before = Manifest.load(used).version
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(
            tmp_path, local, cloud, changes=changes, model="configured", learning_seconds=0.1
        ) as proxy,
    ):
        with caplog.at_level(logging.INFO):
            # The step has a lower priority, so that a busy machine makes it late.
            async with asyncio.timeout(18 * PATIENCE_SECONDS):
                while proxy.proxy.gateway.snapshot.model_version == before:
                    assert (await proxy.chat()).status_code == 200
                    await asyncio.sleep(0.1)
        version = Manifest.load(used).version
        assert proxy.proxy.gateway.snapshot.model_version == version != before
        state = (await proxy.client.get("/api/learning")).json()
        assert state["steps"][0]["decision"] == "activated"
        assert state["version"] == version
        assert "self-calibration: step" in caplog.text


async def test_a_change_of_models_is_reported(
    tmp_path: Path, used: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(f"sqlite:///{tmp_path}/router.db", [])
    changes = {"routing": {"model_path": str(used), "threshold": "auto"}}
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(tmp_path, local, cloud, changes=changes, model="configured") as proxy,
    ):
        state = (await proxy.client.get("/api/learning")).json()
        assert [part["is_calibrated"] for part in state["parts"]] == [True, True, False]
        proxy.configure({"upstreams": {"local": {"model": "qwen3:8b"}}})
        with caplog.at_level(logging.WARNING):
            await proxy.reloaded(lambda: "the models have changed" in caplog.text)
        assert "the calibration was fitted to phi3 and gpt-4o-mini" in caplog.text
        state = (await proxy.client.get("/api/learning")).json()
        assert [part["is_calibrated"] for part in state["parts"]] == [False, False, False]
        assert state["pairs_missing"] == FIRST_PAIRS
