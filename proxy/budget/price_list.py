"""Converting LiteLLM's model list into this project's price list.

    models = convert_models(json.loads(text))
    path.write_text(render_prices(models, as_of=..., header=...))

Sources: https://github.com/BerriAI/litellm, model_prices_and_context_window.json (MIT licence), has
prices and limits of OpenAI's models. The tokens of an image are from OpenAI's guide,
https://platform.openai.com/docs/guides/images-vision, "Calculating costs". The fees of tools are
from https://platform.openai.com/docs/pricing, "Built-in tools".
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

_PROVIDERS: Final = frozenset({"openai", "text-completion-openai"})
_MODES: Final = frozenset({"chat", "responses", "completion", "embedding"})
_KINDS: Final = {
    "input": "input_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "audio_input": "input_cost_per_audio_token",
    "output": "output_cost_per_token",
    "audio_output": "output_cost_per_audio_token",
}
_SAME_WHEN_LONG: Final = ("output", "audio_input", "audio_output")
_TIER: Final = re.compile(r"input_cost_per_token_([a-z]+)")
_LONG: Final = re.compile(r"input_cost_per_token(_above_(\d+)k_tokens)")
# Prices of the batch API, which is not a service tier of an answer.
_NOT_TIERS: Final = frozenset({"batches"})
_OWN_FIELDS: Final = ("flex", "priority")
# USD per call, and per container of the code interpreter, of models without a fee of their own.
_TOOL_FEES: Final = {"web_search": 0.01, "file_search": 0.0025, "code_interpreter": 0.03}

# Prices by OpenAI where LiteLLM has the base model's in their place, by the name's beginning.
_CORRECTED: Final[Mapping[str, Mapping[str, Any]]] = {"ft:gpt-4-": {"input": 45, "output": 90}}
# Retired models that other providers still serve, by OpenAI's last prices, in LiteLLM's form.
_RETIRED: Final[Mapping[str, Mapping[str, Any]]] = {
    "gpt-4-32k": {
        "input_cost_per_token": 6e-5,
        "output_cost_per_token": 1.2e-4,
        "max_input_tokens": 32_768,
        "max_output_tokens": 4_096,
    }
}

# The most tokens that one image is billed as, by the name's beginning. The longest one counts.
# Tiles: a base and 8 tiles. Patches: 1,536 (10,000 with `detail: original`), times a factor.
_IMAGE_TOKENS: Final = {
    "gpt-4": 85 + 8 * 170,
    "gpt-4o-mini": 2_833 + 8 * 5_667,
    "gpt-4.1-mini": 2_489,
    "gpt-4.1-nano": 3_779,
    "gpt-5": 12_000,
    "gpt-5-mini": 2_489,
    "gpt-5-nano": 3_779,
    "gpt-5.4-mini": 24_600,
    "gpt-5.4-nano": 24_600,
    "gpt-6": 24_600,
    "o1": 75 + 8 * 150,
    "o3": 75 + 8 * 150,
    "o4-mini": 2_642,
}
# gpt-4o-mini bills an image as 33.3 times the tokens that it takes of the context.
_BILLED_FACTOR: Final = {"gpt-4o-mini": 34}


def convert_models(source: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The price list's entries, by model name, from LiteLLM's list.

    A dated model that costs the same as the undated one is left out.
    """
    models = {
        name: _convert(name, fields)
        for name, fields in source.items()
        if isinstance(fields, Mapping)
        and fields.get("litellm_provider") in _PROVIDERS
        and fields.get("mode") in _MODES
        and "/" not in name
        and fields.get("input_cost_per_token")
    }
    if "gpt-4" in models:
        for name, fields in _RETIRED.items():
            models.setdefault(name, _convert(name, fields))
    for name in sorted(models):
        base = re.sub(r"-(?:\d{4}-\d{2}-\d{2}|\d{4})$", "", name)
        if base == name:
            continue
        if name.startswith("ft:") and base not in models:
            models[base] = models[name]
        if models.get(base) == models[name]:
            del models[name]
    return dict(sorted(models.items()))


def _convert(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    entry = _prices(fields, "")
    if name.startswith("ft:") and (prefix := _longest_prefix(name, _CORRECTED)):
        entry |= _CORRECTED[prefix]
    _add_long(entry, fields, "")
    tiers = sorted(match[1] for key in fields if (match := _TIER.fullmatch(key)))
    others: dict[str, Any] = {}
    for tier in tiers:
        if tier not in _NOT_TIERS:
            target = entry if tier in _OWN_FIELDS else others
            target[tier] = _prices(fields, f"_{tier}")
            if "output" in entry:  # a tier without an output price has the standard one
                target[tier].setdefault("output", entry["output"])
            _add_long(target[tier], fields, f"_{tier}", usual=entry)
    if others:
        entry["tiers"] = others
    context, output = fields.get("max_input_tokens"), fields.get("max_output_tokens")
    if context:
        entry["context"] = int(context)
    if output and fields.get("mode") != "embedding":
        entry["max_output"] = int(output)
    base = name.removeprefix("ft:")
    if prefix := _longest_prefix(base, _IMAGE_TOKENS):
        entry["image_tokens"] = _IMAGE_TOKENS[prefix]
    if context and (prefix := _longest_prefix(base, _BILLED_FACTOR)):
        entry["max_input"] = int(context) * _BILLED_FACTOR[prefix]
    searches = fields.get("search_context_cost_per_query") or {}  # by the size of the result
    fee = max(searches.values(), default=0)
    if fee and fee != _TOOL_FEES["web_search"]:
        entry["web_search"] = fee
    return entry


def _prices(fields: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """USD per million tokens of one service tier."""
    prices: dict[str, Any] = {}
    for kind, key in _KINDS.items():
        usd = fields.get(key + suffix)
        if usd:
            prices[kind] = _number(Decimal(str(usd)) * 10**6)
    if prices.get("cache_write", 0) < prices.get("input", 0):
        prices.pop("cache_write", None)  # writing is never cheaper: the price of reading, misplaced
    return prices


def _add_long(
    prices: dict[str, Any],
    fields: Mapping[str, Any],
    suffix: str,
    *,
    usual: Mapping[str, Any] | None = None,
) -> None:
    """Add the prices of a request with a long prompt to those of one service tier.

    Args:
        usual: the prices of the standard tier. What LiteLLM lacks rises by the same factors.

    Where LiteLLM has no higher price of output or audio at all, it keeps its price. Cached and
    cache-writing tokens then cost as other input of a long prompt.
    """
    match = next((match for key in fields if (match := _LONG.fullmatch(key))), None)
    if match is None:
        return
    long = _prices(fields, match[1] + suffix)
    if usual is not None:
        for kind in _KINDS.keys() & prices.keys() & usual.keys() & usual["long"].keys():
            factor = Decimal(str(usual["long"][kind])) / Decimal(str(usual[kind]))
            scaled = round(Decimal(str(prices[kind])) * factor, 6)
            long.setdefault(kind, _number(scaled))
    long = {kind: prices[kind] for kind in _SAME_WHEN_LONG if kind in prices} | long
    ordered = {kind: long[kind] for kind in _KINDS if kind in long}
    prices["long"] = {"above": int(match[2]) * 1_000} | ordered


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value.normalize())


def _longest_prefix(name: str, prefixes: Iterable[str]) -> str:
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default="")


def render_prices(models: Mapping[str, Mapping[str, Any]], *, as_of: dt.date, header: str) -> str:
    """The price list as YAML, one model a line.

    Args:
        header: comment lines at the top, each with its `#`.
    """
    lines = [header.rstrip("\n"), "", f"as_of: {as_of}", ""]
    lines += [f"tools: {_flow(_TOOL_FEES)}", "", "models:"]
    lines += [f"  {_quoted(name)}: {_flow(entry)}" for name, entry in models.items()]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return f'"{name}"' if ":" in name else name


def _flow(entry: Mapping[str, Any]) -> str:
    items = (
        f"{key}: {_flow(value) if isinstance(value, Mapping) else value}"
        for key, value in entry.items()
    )
    return "{" + ", ".join(items) + "}"
