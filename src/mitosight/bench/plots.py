"""The pictures of a bench's page, as SVG: precision and recall, drawn F1, what seeing is worth, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mitosight.bench.ranking import RECALLS
from mitosight.bench.tables import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#8B5A2B", "#7F00FF")
LINES = ("-", "--", ":")
HATCHES = ("", "//", "..")


def colour(k: int) -> str:
    """Of the model or scanner number `k`; told apart by colour-blind eyes up to the eighth."""
    return COLOURS[k % len(COLOURS)]


def line(k: int) -> str:
    """The dashes of model number `k`, another kind where colours come round again."""
    return LINES[k // len(COLOURS) % len(LINES)]


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _svg(figure: Figure) -> str:
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mitosight", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def precision_recall(results: Mapping[str, Any], state: str) -> str:
    """One curve a model, the mean over domains and runs, with the AUCPR that the tables have: the area under it."""
    curves = results["curves"][state]
    figure, (ax,) = _figure(1, 8, 4.5)
    for k, (model, curve) in enumerate(curves.items()):
        area = number(results["scores"][state][model]["mean"]["aucpr"]["mean"])
        ax.plot(RECALLS, curve, color=colour(k), linestyle=line(k), label=f"{model} ({area})", linewidth=1.5)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    figure.legend(
        fontsize=8, frameon=False, title="AUCPR, mean of domains", title_fontsize=8, loc="outside right upper"
    )
    return _svg(figure)


def drawn_f1(results: Mapping[str, Any], state: str) -> str:
    """The F1 on slides drawn with replacement: box of the quarters, whiskers of 95 %, by domain and model."""
    drawn = {model: rows for model, rows in results["f1_drawn"][state].items() if rows}
    names = list(dict.fromkeys(domain for rows in drawn.values() for domain in rows))
    width = min(30.0, max(6.0, 1.5 + 0.28 * len(names) * (len(drawn) + 1)))
    figure, (ax,) = _figure(1, width, 4)
    for k, (model, rows) in enumerate(drawn.items()):
        for i, name in enumerate(names):
            if name in rows:
                quantiles = dict(zip(("whislo", "q1", "med", "q3", "whishi"), _five(rows[name]), strict=True))
                box = ax.bxp([{**quantiles, "fliers": []}], [i + (k + 1) / (len(drawn) + 1) - 0.5], showfliers=False,
                             widths=0.8 / (len(drawn) + 1), patch_artist=True, manage_ticks=False)  # fmt: skip
                box["boxes"][0].set(facecolor=colour(k), alpha=0.75, hatch=HATCHES[k // len(COLOURS) % len(HATCHES)])
                box["medians"][0].set(color="black")
        ax.plot([], [], "s", color=colour(k), label=model)
    for i in range(1, len(names)):
        ax.axvline(i - 0.5, color="#dddddd", linewidth=1, zorder=0)
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel="F1", ylim=(0, 1), xlim=(-0.5, len(names) - 0.5))
    figure.legend(fontsize=8, frameon=False, ncols=min(int(width // 2), len(drawn)), loc="outside lower center")
    return _svg(figure)


def _five(quantiles: Sequence[float]) -> list[float]:
    at = (0.025, 0.25, 0.5, 0.75, 0.975)
    return np.interp(at, np.linspace(0, 1, len(quantiles)), quantiles).tolist()


def drop(results: Mapping[str, Any]) -> str:
    """From the F1 of domains that were seen to that of the same when they were not, one line a model."""
    models = list(results["drop"])
    figure, (ax,) = _figure(1, 6, 0.9 + 0.35 * len(models))
    for k, model in enumerate(models):
        seen, unseen = results["drop"][model]["seen"], results["drop"][model]["unseen"]
        ax.plot([seen, unseen], [k, k], color="#bbbbbb", linewidth=2, zorder=1)
        ax.scatter([seen, unseen], [k, k], color=["#0072B2", "#D55E00"], zorder=2)
    ax.scatter([], [], color="#0072B2", label="seen")
    ax.scatter([], [], color="#D55E00", label="unseen")
    ax.set_yticks(range(len(models)), models)
    ax.set(xlabel="F1, mean of domains", ylim=(len(models) - 0.5, -0.5))
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def features(cell: Mapping[str, Any]) -> str:
    """The features of one cell's samples in the plane, coloured by scanner."""
    told = cell["features"]
    xy, scanner = np.array(told["xy"]), np.array(told["scanner"])
    figure, (ax,) = _figure(1, 3.4, 3.2)
    for k, name in enumerate(told["scanners"]):
        own = xy[scanner == k]
        ax.scatter(own[:, 0], own[:, 1], s=5, alpha=0.6, color=colour(k), label=name, linewidths=0)
    ax.set_title(
        f"{cell['model']}, fold {cell['fold']}:\n{told['separability']:.2f} (chance {told['chance']:.2f})", fontsize=8
    )
    ax.set(xticks=[], yticks=[])
    ax.legend(fontsize=6, frameon=False, markerscale=2, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.02))
    return _svg(figure)
