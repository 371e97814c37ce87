"""The report of all results: `hybrid-llm-train report`.

It reads the JSON files of data/results and computes no new figures. It writes one self-contained
HTML page (with plotly.js, so that it works offline) and two images for the README. With --markdown
it prints the README's tables. Every figure has its data, split, number of rows and interval.
"""

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from training.baselines import ROUTER, span
from training.dataset import SPLITS, DataError

# Result file -> the command that makes it.
MADE_BY = {
    "data_card": "prepare",
    "evaluation": "evaluate",
    "baselines": "baselines",
    "errors": "errors",
    "robustness": "robustness",
}
PAGE = "report.html"
IMAGES = ("cost-quality.png", "reliability.png")
INSIDE = "in distribution"

# Okabe and Ito's colours, distinguishable with any colour vision; lines also differ in dash. In the
# order of _PLOTTED, then repeated.
_COLOURS = ("#0072B2", "#000000", "#009E73", "#E69F00", "#CC79A7", "#999999", "#D55E00", "#56B4E9")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# The lines that the plots show initially; the page's tables have all.
_PLOTTED = (ROUTER, "TF-IDF + LR", "MiniLM kNN", "source and category mean", "rules", "random")

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right;
         vertical-align: top; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
thead th { border-bottom: 2px solid #555; }
tr.router td { font-weight: 700; background: #eef5fb; }
.note { color: #555; font-size: .875rem; }
.warning { border-left: .3rem solid #D55E00; padding: .25rem .75rem; background: #fdf3ec; }
nav a { margin-right: 1rem; }
"""


class Results(NamedTuple):
    """The contents of the JSON files, and warnings about inconsistencies between them."""

    data_card: dict[str, Any]
    evaluation: dict[str, Any]
    baselines: dict[str, Any]
    errors: dict[str, Any]
    robustness: dict[str, Any]
    warnings: list[str]


def load(folder: Path) -> Results:
    """Read all results. Raises DataError, which names the command for each missing file."""
    missing = [name for name in MADE_BY if not (folder / f"{name}.json").exists()]
    if missing:
        raise DataError(
            "missing: "
            + "; ".join(
                f"{folder / name}.json, which `hybrid-llm-train {MADE_BY[name]}` makes"
                for name in missing
            )
        )
    contents: dict[str, dict[str, Any]] = {}
    for name in MADE_BY:
        path = folder / f"{name}.json"
        try:
            contents[name] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise DataError(f"{path}: {error}") from error
    warnings = []
    for field in ("data_sha256", "model_version", "split"):
        values = {name: content[field] for name, content in contents.items() if field in content}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name}: {str(value)[:12]}" for name, value in values.items())
            warnings.append(f"The results differ in {field} ({listed}): run the older ones again.")
    return Results(**contents, warnings=warnings)


def write(folder: Path) -> list[Path]:
    """Write the page and the images into the folder of the results. Returns their paths."""
    results = load(folder)
    target = folder / PAGE
    target.write_text(page(results), encoding="utf-8")
    return [target, *images(results, folder)]


def about(content: dict[str, Any], rows: int, *, interval: bool = True) -> str:
    """One line with the provenance of a figure."""
    line = f"{content['split']} split, n = {rows}, model {content['model_version']}"
    if interval:
        rounds = content["bootstrap_rounds"]
        line += f", [95 % bootstrap over near-duplicate groups, {rounds} rounds]"
    return f"{line}, data {content['data_sha256'][:8]}"


def page(results: Results) -> str:
    """The whole HTML page."""
    import plotly
    from plotly.offline import get_plotlyjs

    baselines = results.baselines
    inside = baselines["parts"][INSIDE]
    not_covered = results.data_card["not_covered"]
    sections = [
        ("Cost and quality", _cost_quality(results)),
        ("Ranking per source", _per_source(results)),
        ("Calibration", _calibration(results)),
        ("Categories", _categories(results)),
        ("Errors", _errors(results)),
        ("Robustness", _robustness(results)),
        ("Comparison", _comparison(results)),
        ("Data", _data(results)),
    ]
    anchors = [title.lower().replace(" ", "-") for title, _ in sections]
    warnings = [f'<p class="warning">{_escape(text)}</p>' for text in results.warnings]
    body = [
        "<h1>Router quality</h1>",
        f"<p>Model {_escape(baselines['model_version'])}, recommended threshold "
        f"{baselines['threshold']:.3f}: keeps {inside['router_local_share']:.0%} of the "
        f"{_escape(baselines['split'])} prompts local. Not covered: {_escape(not_covered)}</p>",
        *warnings,
        "<nav>",
        *(
            f'<a href="#{anchor}">{_escape(title)}</a>'
            for anchor, (title, _) in zip(anchors, sections, strict=True)
        ),
        "</nav>",
    ]
    for anchor, (title, content) in zip(anchors, sections, strict=True):
        body.append(f'<h2 id="{anchor}">{_escape(title)}</h2>\n{content}')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Router report {_escape(baselines['model_version'])}</title>\n"
        f"<style>{_STYLE}</style>\n<!-- plotly {plotly.__version__} -->\n"
        f"<script>{get_plotlyjs()}</script>\n"
        "</head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _cost_quality(results: Results) -> str:
    import plotly.graph_objects as go

    content = results.baselines
    part = content["parts"][INSIDE]
    figure = go.Figure()
    for i, (name, points) in enumerate(_ordered(content["curves"])):
        figure.add_scatter(
            x=points["cost_share"],
            y=points["pgr"],
            name=name,
            mode="lines",
            visible=True if name in _PLOTTED else "legendonly",
            line={
                "color": _COLOURS[i % len(_COLOURS)],
                "dash": _DASHES[i % len(_DASHES)],
                "width": 3 if name == ROUTER else 1.5,
            },
        )
    router = part["baselines"][ROUTER]
    figure.add_scatter(
        x=[router["cost_share"]],
        y=[router["pgr_at_rate"][0]],
        name=f"threshold {content['threshold']:.3f}",
        mode="markers",
        marker={"size": 13, "symbol": "diamond", "color": _COLOURS[0]},
        error_y=_bars([router["pgr_at_rate"]]),
    )
    figure.update_layout(
        xaxis={"title": "dollars, share of sending everything to the cloud", "tickformat": ".0%"},
        yaxis={"title": "share of the quality gap recovered (PGR)", "tickformat": ".0%"},
    )
    return _figure(figure) + _note(
        about(content, part["rows"])
        + ". Dollars, not calls: long answers cost more. Tap a name to show or hide it."
    )


def _per_source(results: Results) -> str:
    import plotly.graph_objects as go

    content = results.baselines
    figure = go.Figure()
    parts = content["parts"]
    names = [name for name, _ in _ordered(parts[INSIDE]["baselines"])]
    for i, name in enumerate(n for n in names if "auroc_local" in parts[INSIDE]["baselines"][n]):
        values = [part["baselines"][name]["auroc_local"] for part in parts.values()]
        figure.add_scatter(
            x=[f"{part}<br>n = {about_part['rows']}" for part, about_part in parts.items()],
            y=[v[0] for v in values],
            error_y=_bars(values),
            name=name,
            mode="markers",
            visible=True if name in _PLOTTED else "legendonly",
            marker={"size": 11 if name == ROUTER else 8, "color": _COLOURS[i % len(_COLOURS)]},
        )
    figure.update_layout(
        scattermode="group",
        yaxis={"title": "AUROC of “the local answer is good”", "range": [0.2, 1]},
    )
    figure.add_hline(y=0.5, line={"dash": "dot", "color": "#777"})
    return _figure(figure) + _note(
        about(content, parts[INSIDE]["rows"])
        + ". Within a source only the prompt helps; the pooled figure mostly separates the "
        "sources."
    )


def _calibration(results: Results) -> str:
    import plotly.graph_objects as go

    content = results.evaluation
    part = content["in_distribution"]
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="perfect", line={"dash": "dot", "color": "#777"}
    )
    for i, (name, title) in enumerate(_PROBABILITIES.items()):
        points = content["reliability"][name]
        figure.add_scatter(
            x=points["predicted"],
            y=points["observed"],
            text=[f"n = {n}" for n in points["rows"]],
            name=f"{title} (ECE {part[_ECE[name]]:.3f})",
            mode="lines+markers",
            line={"color": _COLOURS[i], "dash": _DASHES[i]},
        )
    figure.update_layout(
        xaxis={"title": "predicted", "range": [0, 1]}, yaxis={"title": "observed", "range": [0, 1]}
    )
    histogram = results.errors["histogram"]
    middles = [
        (a + b) / 2 for a, b in zip(histogram["edges"], histogram["edges"][1:], strict=False)
    ]
    bars = go.Figure()
    for i, (key, title) in enumerate(
        {"local_suffices": "local at least as good", "cloud_better": "cloud better"}.items()
    ):
        bars.add_bar(x=middles, y=histogram[key], name=title, marker={"color": _COLOURS[i]})
    bars.add_vline(x=results.errors["threshold"], line={"dash": "dash"})
    bars.update_layout(
        barmode="stack", xaxis={"title": "score", "range": [0, 1]}, yaxis={"title": "prompts"}
    )
    return (
        _figure(figure)
        + _note(about(content, part["rows"], interval=False) + ". Ten bins of equal width.")
        + _figure(bars)
        + _note(
            about(results.errors, results.errors["rows"], interval=False)
            + ". Prompts right of the dashed threshold of the score stay local."
        )
    )


_PROBABILITIES = {
    "p_local": "the local answer is good",
    "score": "the local answer is at least as good",
}
_ECE = {"p_local": "ece_local", "score": "ece_score"}


def _categories(results: Results) -> str:
    import plotly.graph_objects as go

    content = results.errors
    names = sorted(content["categories"], key=lambda n: -content["categories"][n]["false local"][0])
    figure = go.Figure()
    for i, kind in enumerate(("false local", "false cloud")):
        values = [content["categories"][name][kind] for name in names]
        figure.add_bar(
            x=[v[0] for v in values],
            y=[f"{name} (n = {content['categories'][name]['rows']})" for name in names],
            error_x=_bars(values),
            orientation="h",
            name=kind,
            marker={"color": _COLOURS[i + 1]},
        )
    figure.update_layout(
        xaxis={"title": "share of the prompts", "tickformat": ".0%"},
        yaxis={"automargin": True},
        height=200 + 45 * len(names),
    )
    table = _table(
        ("source / category", "n", "local ok", "AUROC local", "APGR"),
        [
            (name, c["rows"], c["local_ok_share"], c["auroc_local"], c["apgr"])
            for name, c in results.evaluation["categories"].items()
        ],
    )
    return (
        _figure(figure)
        + _note(about(content, content["rows"]))
        + table
        + _note(about(results.evaluation, results.evaluation["in_distribution"]["rows"]))
    )


def _errors(results: Results) -> str:
    content = results.errors
    rates = _table(
        ("", "n", "kept local", "false local", "false cloud", "of it both fail"),
        [
            (
                name,
                r["rows"],
                r["local_share"],
                span(r["false local"]),
                span(r["false cloud"]),
                r["false cloud, both fail"],
            )
            for name, r in content["sources"].items()
        ],
        caption=f"At threshold {content['threshold']:.3f}",
    )
    tables = [
        _table(
            ("id", "category", "score", "local", "cloud", "prompt"),
            [
                (e["id"], e["category"], e["score"], e["local_score"], e["cloud_score"], e["text"])
                for e in examples
            ],
            caption=f"Most confident, {kind}",
            text_columns=(0, 1, 5),
        )
        for kind, examples in content["examples"].items()
    ]
    return rates + _note(about(content, content["rows"])) + "".join(tables)


def _robustness(results: Results) -> str:
    content = results.robustness
    table = _table(
        ("change", "decisions that survive", "to cloud", "to local", "mean change of merit"),
        [
            (name, span(r["survive"]), r["to_cloud"], r["to_local"], r["mean_change"])
            for name, r in content["changes"].items()
        ],
    )
    notes = "".join(_note(f"{name}: {text}") for name, text in content["notes"].items())
    return table + _note(about(content, content["rows"])) + notes


def _comparison(results: Results) -> str:
    content = results.baselines
    tables = []
    for name, part in content["parts"].items():
        rows = [
            (
                baseline,
                span(r.get("auroc_local")),
                span(r.get("apgr")),
                span(r.get("pgr_at_rate")),
                r["quality"],
                r["cost_share"],
                span(r.get("router_ahead", {}).get("auroc_local")),
                span(r.get("router_ahead", {}).get("apgr")),
            )
            for baseline, r in part["baselines"].items()
        ]
        tables.append(
            _table(
                (
                    "",
                    "AUROC local ok",
                    "APGR",
                    "PGR at the router's rate",
                    "quality 0-10",
                    "cost",
                    "router ahead, AUROC",
                    "router ahead, APGR",
                ),
                rows,
                caption=f"{name}, n = {part['rows']}, {part['router_local_share']:.0%} kept local",
                marked=ROUTER,
            )
        )
    return "".join(tables) + _note(
        about(content, content["parts"][INSIDE]["rows"])
        + ". Differences are paired: the same samples for both. Chosen on validation: "
        + ", ".join(f"{name} {value}" for name, value in content["chosen_on_validation"].items())
    )


def _data(results: Results) -> str:
    card = results.data_card
    table = _table(
        ("source", "role", *SPLITS, "local ok", "cloud better", "licence"),
        [
            (
                name,
                s["role"],
                *(s["splits"].get(split, 0) for split in SPLITS),
                s["local_ok_share"],
                s["cloud_better_share"],
                "; ".join(s["licences"]),
            )
            for name, s in card["sources"].items()
        ],
        text_columns=(0, 1, 8),
    )
    leaks = _table(
        ("against train", "n", "groups shared", "prompts shared", "near-duplicates"),
        [
            (
                split,
                c["rows"],
                c["groups_in_train"],
                c["texts_in_train"],
                c["near_duplicates_in_train"],
            )
            for split, c in card["leakage"].items()
            if isinstance(c, dict)
        ],
    )
    near = card["leakage"]["near_duplicate_jaccard"]
    files = ", ".join(f"{f['name']} ({f['sha256'][:12]}…)" for f in card["files"])
    return table + leaks + _note(f"Near-duplicate: Jaccard ≥ {near}. Read: {files}")


def images(results: Results, folder: Path) -> list[Path]:
    """The two images of the README: the cost-quality curve and the reliability diagram."""
    import matplotlib as mpl

    mpl.use("Agg")  # Most training machines have no display.
    from matplotlib import pyplot as plt

    content = results.baselines
    part = content["parts"][INSIDE]
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for i, (name, points) in enumerate(_ordered(content["curves"])):
        if name in _PLOTTED:
            axes.plot(
                points["cost_share"],
                points["pgr"],
                label=name,
                color=_COLOURS[i % len(_COLOURS)],
                linewidth=2.2 if name == ROUTER else 1.1,
                linestyle="-" if name == ROUTER else ("--", "-.", ":")[i % 3],
            )
    router = part["baselines"][ROUTER]
    value, low, high = router["pgr_at_rate"]
    axes.errorbar(
        [router["cost_share"]],
        [value],
        yerr=[[value - low], [high - value]],
        fmt="D",
        color=_COLOURS[0],
        capsize=3,
        label=f"threshold {content['threshold']:.2f}",
    )
    axes.set(
        xlabel="dollars, share of all-cloud",
        ylabel="quality gap recovered (PGR)",
        title=f"{content['split']}, n = {part['rows']}, benchmark questions",
    )
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25)
    _save(figure, folder / IMAGES[0])

    content = results.evaluation
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], ":", color="#777")
    for i, (name, title) in enumerate(_PROBABILITIES.items()):
        points = content["reliability"][name]
        ece = content["in_distribution"][_ECE[name]]
        axes.plot(
            points["predicted"],
            points["observed"],
            "o-" if i == 0 else "s--",
            color=_COLOURS[i],
            label=f"{title} (ECE {ece:.3f})",
        )
    axes.set(
        xlabel="predicted",
        ylabel="observed",
        title=f"{content['split']}, n = {content['in_distribution']['rows']}",
    )
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25)
    _save(figure, folder / IMAGES[1])
    return [folder / name for name in IMAGES]


def markdown(results: Results) -> str:
    """The README's tables, each with its provenance."""
    content = results.baselines
    shown = ("source and category mean", "TF-IDF + LR", "MiniLM kNN", ROUTER)
    first = [
        (
            name,
            str(part["rows"]),
            f"{part['local_ok_share']:.2f}",
            *(_span_or_dash(part["baselines"][b].get("auroc_local")) for b in shown),
            _span_or_dash(part["baselines"]["TF-IDF + LR"]["router_ahead"]["auroc_local"]),
        )
        for name, part in content["parts"].items()
    ]
    second = [
        (
            name,
            _span_or_dash(part["baselines"]["TF-IDF + LR"]["apgr"]),
            _span_or_dash(part["baselines"][ROUTER]["apgr"]),
            _span_or_dash(part["baselines"]["oracle"]["apgr"]),
            f"{part['router_local_share']:.0%}",
            f"{part['baselines'][ROUTER]['cost_share']:.0%}",
            _span_or_dash(part["baselines"][ROUTER]["pgr_at_rate"]),
        )
        for name, part in content["parts"].items()
    ]
    survive = [
        (name, _span_or_dash(r["survive"])) for name, r in results.robustness["changes"].items()
    ]
    provenance = about(content, content["parts"][INSIDE]["rows"])
    return "\n\n".join(
        [
            "AUROC of “the local answer is good” (0.5 is chance):",
            _markdown_table(("source", "n", "local ok", *shown, "router − TF-IDF"), first),
            f"{provenance}. {content['what']}",
            "APGR (0.5 is random), and the effect of the threshold of the score:",
            _markdown_table(
                ("source", "TF-IDF + LR", "router", "oracle", "kept local", "dollars", "PGR"),
                second,
            ),
            f"{provenance}; threshold {content['threshold']:.3f}.",
            "Share of decisions that survive a change of the prompt:",
            _markdown_table(("change", "survive"), survive),
            f"{about(results.robustness, results.robustness['rows'])}.",
            *(f"Note: {warning}" for warning in results.warnings),
        ]
    )


def _ordered(named: dict[str, Any]) -> list[tuple[str, Any]]:
    """Sort: the names of _PLOTTED first, in its order, then the rest unchanged."""
    positions = {name: position for position, name in enumerate(_PLOTTED)}
    return sorted(named.items(), key=lambda item: positions.get(item[0], len(positions)))


def _bars(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if None in v else v[2] - v[0] for v in values],
        "arrayminus": [None if None in v else v[0] - v[1] for v in values],
        "thickness": 1,
        "width": 3,
    }


def _figure(figure: Any) -> str:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 60, "b": 60},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    if figure.layout.height is None:
        figure.update_layout(height=480)
    content: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return content


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    caption: str = "",
    text_columns: Sequence[int] = (0,),
    marked: str = "",
) -> str:
    def cell(tag: str, i: int, value: Any) -> str:
        attribute = ' class="text"' if i in text_columns else ""
        return f"<{tag}{attribute}>{_escape(_format(value))}</{tag}>"

    lines = []
    for row in rows:
        attribute = ' class="router"' if marked and row[0] == marked else ""
        lines.append(f"<tr{attribute}>{''.join(cell('td', i, v) for i, v in enumerate(row))}</tr>")
    title = f"<caption>{_escape(caption)}</caption>" if caption else ""
    top = "".join(cell("th", i, name) for i, name in enumerate(head))
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    # Without the version in its metadata, the same results give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _note(text: str) -> str:
    return f'<p class="note">{_escape(text)}</p>'


def _format(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "–"
    return str(value)


def _span_or_dash(values: Sequence[float] | None) -> str:
    return span(values) or "–"


def _escape(text: object) -> str:
    return html.escape(str(text))
