"""Draw the Grafana dashboard as a picture for the documentation: data/results/dashboard.png.

    make pictures         # or: .venv-train/bin/python tests/tools/pictures.py --minutes 5

It needs no Grafana: it draws some of the dashboard's panels with the queries, colours and names of
configs/grafana. The traffic is simulated against a live proxy with the shipped router model and
scripted tiers, one of which is down for a while. A real Prometheus scrapes the proxy and answers
the panels' queries.

Needs matplotlib (part of the training environment) and Prometheus: apt-get install prometheus.
"""

import argparse
import asyncio
import io
import logging
import math
import random
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, MinuteLocator, date2num
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from monitoring import expressions
from monitoring.expressions import fill_in
from monitoring.prometheus import Prometheus, Series
from monitoring.scene import Scene, judge, open_scene

ROOT: Final = Path(__file__).resolve().parents[2]
STATS: Final = (
    "Requests",
    "Local share of answers",
    "Spent today",
    "Saved",
    "Time to first token, p95",
    "Quality recovered",
    "Failed",
    "Fell back",
)
GRAPHS: Final = (
    "Requests by tier",
    "Requests by routing reason",
    "Merits and the threshold",
    "Time to first token by tier",
    "Cost per hour",
    "Gap recovered",
    "Fallbacks",
    "In flight and queued",
)
STEP_SECONDS: Final = 2.0
RATE_SECONDS: Final = 20  # $__rate_interval
SETTLE_SECONDS: Final = 25.0  # warm-up, which is not drawn
JUDGE_SECONDS: Final = 5.0
DOWN_FROM, DOWN_TO = 0.55, 0.68  # shares of the time between which the cloud is down
WAVE_SECONDS: Final = 150.0

# Grafana's dark theme.
PAGE, PANEL, EDGE, TEXT, DIM = "#111217", "#181b1f", "#2b2f36", "#d8d9da", "#8e8e8e"
COLOURS: Final = {
    "green": "#73bf69",
    "light-green": "#96d98d",
    "dark-green": "#37872d",
    "blue": "#5794f2",
    "light-blue": "#8ab8ff",
    "dark-blue": "#1f60c4",
    "purple": "#b877d9",
    "light-purple": "#ca95e5",
    "dark-purple": "#8f3bb8",
    "yellow": "#fade2a",
    "dark-yellow": "#e0b400",
    "orange": "#ff9830",
    "dark-orange": "#fa6400",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "text": TEXT,
}
CLASSIC: Final = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9")


# --- traffic ---


async def run_traffic(scene: Scene, *, seconds: float) -> None:
    """Send traffic in waves, judge answers, and take the cloud down for a while."""
    stop = asyncio.Event()
    started_at = time.monotonic()
    traffic = asyncio.create_task(scene.clients.run(requests_per_second, stop))
    next_report = 0.0
    while (passed := time.monotonic() - started_at) < seconds and not traffic.done():
        scene.cloud.down = DOWN_FROM < passed / seconds < DOWN_TO
        judged = judge(scene.database, random.Random(passed))
        if passed >= next_report:
            print(f"{passed:.0f} of {seconds:.0f} s: {judged} requests judged", flush=True)
            next_report += 30
        await asyncio.sleep(JUDGE_SECONDS)
    stop.set()
    await traffic


def requests_per_second(seconds: float) -> float:
    return 9 + 5 * math.sin(2 * math.pi * seconds / WAVE_SECONDS)


# --- panels ---


class SeriesStyle:
    """Style of a series of a panel, from the panel's defaults and overrides."""

    def __init__(self, panel: dict[str, Any], name: str, number: int) -> None:
        self._options = panel["fieldConfig"]["defaults"].get("custom", {})
        for override in panel["fieldConfig"]["overrides"]:
            if matches(override["matcher"], name):
                properties = {item["id"]: item["value"] for item in override["properties"]}
                custom = {
                    key[7:]: value for key, value in properties.items() if key[:7] == "custom."
                }
                self._options = self._options | properties | custom
        colour = self._options.get("color", {}).get("fixedColor", CLASSIC[number % len(CLASSIC)])
        self.colour = COLOURS.get(colour, colour)
        self.name: str = self._options.get("displayName", name)
        self.width: float = self._options.get("lineWidth", 1)
        self.fill: float = self._options.get("fillOpacity", 0) / 100
        self.down_to: str | None = self._options.get("fillBelowTo")
        self.dashed = self._options.get("lineStyle", {}).get("fill") == "dash"
        self.stacked = self._options.get("stacking", {}).get("mode") == "normal"


def matches(matcher: dict[str, str], name: str) -> bool:
    if matcher["id"] == "byRegexp":
        return re.search(matcher["options"], name) is not None
    return matcher["options"] == name


async def draw_graph(
    card: Axes, panel: dict[str, Any], prometheus: Prometheus, *, start: float, end: float
) -> None:
    axes = card.inset_axes((0.075, 0.3, 0.905, 0.56))
    points: dict[str, list[float]] = {}
    times = [start + STEP_SECONDS * n for n in range(int((end - start) / STEP_SECONDS) + 1)]
    for target in panel["targets"]:
        expr = fill_in(target["expr"], interval=f"{RATE_SECONDS}s", span=f"{end - start:.0f}s")
        series = await prometheus.query_range(expr, start=start, end=end, step=STEP_SECONDS)
        for item in series:
            points[legend(target["legendFormat"], item)] = values_at(times, item)
    moments = date2num([datetime.fromtimestamp(seconds, UTC) for seconds in times])
    floor = [0.0] * len(times)
    for number, name in enumerate(sorted(points, key=lambda name: order(panel, name))):
        style, values = SeriesStyle(panel, name, number), points[name]
        if style.stacked:
            low, values = floor, [a + b for a, b in zip(floor, fill_gaps(values), strict=True)]
            floor = values
        else:
            low = points.get(style.down_to or "", [0.0] * len(times))
        axes.fill_between(moments, low, values, color=style.colour, alpha=style.fill, linewidth=0)
        axes.plot(
            moments,
            values,
            color=style.colour,
            linewidth=1.2 * style.width or 0.5,
            linestyle=(0, (5, 3)) if style.dashed else "solid",
            label=style.name,
        )
    finish(axes, panel)
    axes.set_xlim(moments[0], moments[-1])


def fill_gaps(values: list[float]) -> list[float]:
    return [0.0 if math.isnan(value) else value for value in values]


def order(panel: dict[str, Any], name: str) -> int:
    """Sort key of a series: the order of the panel's overrides."""
    matching = [
        matches(override["matcher"], name) for override in panel["fieldConfig"]["overrides"]
    ]
    return matching.index(True) if True in matching else len(matching)


def legend(template: str, series: Series) -> str:
    for label, value in series.labels.items():
        template = template.replace("{{" + label + "}}", value)
    return template


def values_at(times: list[float], series: Series) -> list[float]:
    """The value of the series at each of these times; NaN where it has none."""
    known = {round(seconds, 1): value for seconds, value in series.points}
    return [known.get(round(seconds, 1), math.nan) for seconds in times]


def make_card(figure: Figure, place: SubplotSpec, title: str) -> Axes:
    card = figure.add_subplot(place, facecolor=PANEL, xticks=[], yticks=[])
    for side in card.spines.values():
        side.set_color(EDGE)
    card.annotate(
        title,
        (0, 1),
        xytext=(9, -9),
        xycoords="axes fraction",
        textcoords="offset points",
        color=TEXT,
        fontsize=9.5,
        fontweight="bold",
        va="top",
    )
    return card


def finish(axes: Axes, panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes.set_facecolor(PANEL)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.margins(x=0)
    axes.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    axes.grid(color=EDGE, linewidth=0.7)
    axes.tick_params(colors=DIM, labelsize=7.5, length=0)
    axes.xaxis.set_major_locator(MinuteLocator())
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: format_value(y, defaults["unit"])))
    if axes.get_lines():
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.11),
            ncols=3,
            fontsize=7.5,
            labelcolor=TEXT,
            frameon=False,
            handlelength=1.2,
            columnspacing=1.4,
        )


async def draw_stat(
    card: Axes, panel: dict[str, Any], prometheus: Prometheus, *, start: float, end: float
) -> None:
    (target,) = panel["targets"]
    span = f"{end - start:.0f}s"
    result = await prometheus.query(fill_in(target["expr"], interval=f"{RATE_SECONDS}s", span=span))
    defaults = panel["fieldConfig"]["defaults"]
    value = result[0].points[0][1] if result else math.nan
    text = (
        defaults.get("noValue", "no data")
        if math.isnan(value)
        else format_value(value, defaults["unit"])
    )
    card.text(
        0.5,
        0.36,
        text,
        color=stat_colour(defaults, value),
        fontsize=20 if len(text) < 8 else 11,
        fontweight="bold",
        ha="center",
        va="center",
    )


def stat_colour(defaults: dict[str, Any], value: float) -> str:
    colour: str = defaults["color"].get("fixedColor", "")
    if not colour:
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                colour = step["color"]
    return COLOURS.get(colour, colour)


def format_value(value: float, unit: str) -> str:
    """Format a value with its unit, for the units of these panels."""
    if unit == "percentunit":
        return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"
    if unit == "currencyUSD":
        return f"${value:.2f}"
    if unit == "reqps":
        return f"{value:.3g}/s"
    if unit == "s":
        return f"{value * 1e3:.0f} ms" if 0 < value < 1 else f"{value:.3g} s"
    return f"{value:.3g}"


async def draw(prometheus: Prometheus, *, start: float, end: float) -> Figure:
    panels = {panel["title"]: panel for panel in expressions.panels()}
    rows = len(GRAPHS) // 2
    figure = plt.figure(figsize=(14, 1.75 + 2.7 * rows), facecolor=PAGE)
    grid = figure.add_gridspec(
        rows + 1,
        len(STATS),
        height_ratios=[0.36] + [1] * rows,
        hspace=0.05,
        wspace=0.06,
        left=0.012,
        right=0.988,
        top=0.955,
        bottom=0.012,
    )
    title = expressions.dashboard()["title"]
    figure.text(0.014, 0.97, title, color=TEXT, fontsize=14, fontweight="bold")
    half = len(STATS) // 2
    for number, name in enumerate(STATS):
        card = make_card(figure, grid[0, number], name)
        await draw_stat(card, panels[name], prometheus, start=start, end=end)
    for number, name in enumerate(GRAPHS):
        row, column = divmod(number, 2)
        place = grid[1 + row, half * column : half * (column + 1)]
        card = make_card(figure, place, name)
        await draw_graph(card, panels[name], prometheus, start=start, end=end)
    return figure


async def take_picture(*, minutes: float, seed: int) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        rng = random.Random(seed)
        async with open_scene(Path(folder), rng=rng, speed=0.3, trouble=0.02) as scene:
            await run_traffic(scene, seconds=SETTLE_SECONDS + 60 * minutes)
            end = time.time() - 2
            start = end - 60 * minutes
            return await draw(scene.prometheus, start=start, end=end)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="minutes of traffic to draw")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random traffic")
    parser.add_argument("--out", type=Path, default=ROOT / "data/results/dashboard.png")
    arguments = parser.parse_args()
    logging.disable()  # the simulated outage would fill the output with warnings
    figure = asyncio.run(take_picture(minutes=arguments.minutes, seed=arguments.seed))
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, facecolor=figure.get_facecolor())
    Image.open(drawn).convert("RGB").quantize(256).save(out, optimize=True)  # a third of the size
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
