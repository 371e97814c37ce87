"""Converting LiteLLM's list of models."""

import json
from pathlib import Path

from click.testing import CliRunner

from proxy.cli.main import main
from proxy.config import LongPrices, ModelPrices, PriceConfig, load_prices

SOURCE = {
    "gpt-9": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2e-06,
        "cache_creation_input_token_cost": 2.5e-06,
        "output_cost_per_token": 1e-05,
        "input_cost_per_token_ultrafast": 1.2e-05,
        "output_cost_per_token_ultrafast": 6e-05,
        "input_cost_per_token_batches": 1e-06,
        "input_cost_per_token_priority": 4e-06,
        "output_cost_per_token_priority": 2e-05,
        "input_cost_per_token_above_272k_tokens": 4e-06,
        "cache_creation_input_token_cost_above_272k_tokens": 5e-06,
        "cache_creation_input_token_cost_above_12hr_above_272k_tokens": 1e-05,
        "output_cost_per_token_above_272k_tokens": 1.5e-05,
        "input_cost_per_token_above_272k_tokens_batches": 2e-06,
        "input_cost_per_token_above_272k_tokens_ultrafast": 2.5e-05,
        "output_cost_per_token_above_272k_tokens_ultrafast": 9.5e-05,
        "max_input_tokens": 922000,
        "max_output_tokens": 128000,
        "search_context_cost_per_query": {"search_context_size_low": 0.01},
    },
    "gpt-9-audio": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2.5e-06,
        "input_cost_per_audio_token": 3.2e-05,
        "output_cost_per_token": 1e-05,
        "output_cost_per_audio_token": 6.4e-05,
        "search_context_cost_per_query": {
            "search_context_size_low": 0.01,
            "search_context_size_medium": 0.02,
            "search_context_size_high": 0.025,
        },
    },
    "elsewhere": {"litellm_provider": "other", "mode": "chat", "input_cost_per_token": 1e-06},
}


def test_the_price_list_is_renewed_from_its_source(tmp_path: Path) -> None:
    source, out = tmp_path / "source.json", tmp_path / "pricing.yaml"
    source.write_text(json.dumps(SOURCE))
    arguments = ["prices", "update", str(source), "--out", str(out), "--as-of", "2026-11-29"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    listed = load_prices(out)
    assert listed.keys() == {"gpt-9", "gpt-9-audio"}
    assert listed["gpt-9-audio"] == ModelPrices(
        input=2.5,
        audio_input=32,
        output=10,
        audio_output=64,
        web_search=0.025,  # the highest
        file_search=0.0025,
        code_interpreter=0.03,
    )
    model = listed["gpt-9"]
    assert (model.web_search, model.file_search, model.code_interpreter) == (0.01, 0.0025, 0.03)
    assert "web_search: 0.01," not in out.read_text().partition("models:")[2]
    assert (model.input, model.cache_write, model.output) == (2, 2.5, 10)
    assert model.long == LongPrices(above=272_000, input=4, cache_write=5, output=15)
    assert model.special == {
        "priority": PriceConfig(
            input=4,
            output=20,
            long=LongPrices(above=272_000, input=8, output=30),  # the standard tier's factors
        ),
        "ultrafast": PriceConfig(
            input=12, output=60, long=LongPrices(above=272_000, input=25, output=95)
        ),
    }
    assert (model.context, model.max_output) == (922_000, 128_000)
    assert "as_of: 2026-11-29" in out.read_text()


def test_every_converted_list_can_be_read(tmp_path: Path) -> None:
    fields = SOURCE["gpt-9-audio"] | {
        "input_cost_per_token_above_128k_tokens": 5e-06,
        "input_cost_per_token_decisions": 2.5e-06,
        "input_cost_per_audio_token_above_128k_tokens": 6.4e-05,
    }
    source, out = tmp_path / "source.json", tmp_path / "pricing.yaml"
    source.write_text(json.dumps({"gpt-9-audio": fields}))
    result = CliRunner().invoke(main, ["prices", "update", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    model = load_prices(out)["gpt-9-audio"]
    assert model.long == LongPrices(
        above=128_000, input=5, audio_input=64, output=10, audio_output=64
    )
    # A tier without an output price: that of the standard tier.
    assert model.tiers["decisions"] == PriceConfig(
        input=2.5, output=10, long=LongPrices(above=128_000, input=5, output=10)
    )


def test_a_model_may_have_fees_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "pricing.yaml"
    fees = "tools: {web_search: 0.01, file_search: 0.0025}\n"
    path.write_text(f"{fees}models: {{a: {{input: 1}}, b: {{input: 1, web_search: 0.025}}}}\n")
    listed = load_prices(path)
    assert [(model.web_search, model.file_search) for model in listed.values()] == [
        (0.01, 0.0025),
        (0.025, 0.0025),
    ]
    path.write_text("models: {a: {input: 1}}\n")
    assert load_prices(path)["a"].web_search == 0


def test_prices_that_the_source_lacks_or_has_wrong(tmp_path: Path) -> None:
    fields = {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 3e-05,
        "output_cost_per_token": 6e-05,
    }
    source, out = tmp_path / "source.json", tmp_path / "pricing.yaml"
    source.write_text(json.dumps({"gpt-4": fields, "ft:gpt-4-0613": fields}))
    result = CliRunner().invoke(main, ["prices", "update", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    listed = load_prices(out)
    costs = {name: (price.input, price.output) for name, price in listed.items()}
    assert costs == {"gpt-4": (30, 60), "gpt-4-32k": (60, 120), "ft:gpt-4": (45, 90)}


def test_a_source_without_prices_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source.json"
    source.write_text("[]")
    result = CliRunner().invoke(main, ["prices", "update", str(source)])
    assert result.exit_code == 1
    assert "is not LiteLLM's list" in result.output
