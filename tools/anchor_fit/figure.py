"""The figure of tools/anchors.py: recall over IoU, and boxes beside anchors by width and height, before and after."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd.evaluation.report.charts import BLUE, GREY, INK, RED

THRESHOLDS = np.linspace(0.3, 0.9, 61)
DOTS = 3000  # objects drawn; more would hide one another
# A hollow square is seen around a filled dot.
_BEFORE = {"color": RED, "marker": "s"}
_AFTER = {"color": BLUE, "marker": "o"}
_BELOW = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.11)}
_STYLE = {"font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#9aa5b1"}
_STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "grid.color": "#e4e7eb", "axes.axisbelow": True}
_STYLE |= {"xtick.color": "#52606d", "ytick.color": "#52606d", "legend.frameon": False, "axes.titlelocation": "left"}
_STYLE |= {"text.parse_math": False, "axes.titlesize": 10}


def draw_figure(
    path: Path,
    title: str,
    ious: dict[str, np.ndarray],
    sides: np.ndarray,
    shapes: dict[str, np.ndarray],
    image_size: Sequence[int],
    match_threshold: float,
) -> None:
    """Write a PNG.

    ious: {"before": (N,), "after": (N,)} best IoU of each judged object, or before alone; sides: (M, 2) height and
    width in pixels of the objects that were fitted to; shapes: {"before": (S, 2), …} of the anchors, as sides;
    image_size: height and width of the input
    """
    # Its first use on a machine takes seconds and says so, which is no news here.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 5.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=11)
        _draw_recall(left, ious, match_threshold)
        _draw_shapes(right, sides, shapes, image_size)
        figure.savefig(path, dpi=130)


def _draw_recall(axes, ious: dict[str, np.ndarray], match_threshold: float) -> None:
    axes.grid(True)
    for (name, values), style in zip(ious.items(), (_BEFORE, _AFTER)):
        recall = (values[:, None] > THRESHOLDS).mean(axis=0)
        reached = (values > match_threshold).mean()
        label = f"{name}: {reached:.3f} at {match_threshold:g}, mean IoU {values.mean():.3f}"
        axes.plot(THRESHOLDS, recall, color=style["color"], linewidth=2, label=label)
        axes.plot(match_threshold, reached, style["marker"], color=style["color"], markersize=6)
    axes.axvline(match_threshold, color=GREY, linestyle="--", linewidth=1)
    axes.set(xlim=(0.29, 0.91), ylim=(0, 1.02), xlabel="IoU", ylabel="share of objects with an anchor above it")
    axes.set_title("recall; dashed: match_threshold")
    axes.legend(**_BELOW)


def _draw_shapes(axes, sides: np.ndarray, shapes: dict[str, np.ndarray], image_size: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.grid(True)
    shown = sides[np.linspace(0, len(sides) - 1, min(len(sides), DOTS)).round().astype(int)]
    dots = {"s": 6, "color": "#9aa5b1", "alpha": 0.35, "linewidths": 0}
    axes.scatter(shown[:, 1], shown[:, 0], label=f"{len(shown):,} objects", **dots)
    for (name, tall_wide), style, filled in zip(shapes.items(), (_BEFORE, _AFTER), (False, True)):
        face = style["color"] if filled else "none"
        look = {"s": 26 if filled else 44, "marker": style["marker"], "linewidths": 1.3, "alpha": 0.85}
        look |= {"facecolors": face, "edgecolors": style["color"], "label": f"anchors {name}"}
        axes.scatter(tall_wide[:, 1], tall_wide[:, 0], **look)
    both = np.concatenate([shown, *shapes.values()])
    low, high = both.min() / 1.15, both.max() * 1.15
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low <= tick <= high]
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())
    height, width = image_size
    axes.set(xlabel=f"width in pixels of the {width}x{height} input", ylabel="height in pixels")
    axes.set_title("sizes and shapes")
    legend = axes.legend(**_BELOW, ncols=3, handletextpad=0.2)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
