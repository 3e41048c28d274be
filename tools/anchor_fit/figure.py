"""Draw recall against IoU threshold, and box and anchor sizes, before and after the fit of the default boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssd.evaluation.report.charts import BLUE, GREY, RED, chart_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IOU_THRESHOLDS = np.linspace(0.3, 0.9, 61)
MAX_DOTS = 3000  # maximum number of ground-truth boxes to draw; more dots would hide one another
# Draw "before" as hollow squares, because hollow squares stay visible around the filled dots of "after".
_BEFORE = {"color": RED, "marker": "s"}
_AFTER = {"color": BLUE, "marker": "o"}
_BELOW = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.11)}
_STYLE = {"axes.grid": False, "axes.titlelocation": "left", "axes.titlesize": 10, "legend.fontsize": 10}


def draw_figure(
    path: Path,
    title: str,
    ious: dict[str, np.ndarray],
    sizes_hw: np.ndarray,
    shapes_hw: dict[str, np.ndarray],
    image_size: Sequence[int],
    match_threshold: float,
) -> None:
    """Draw recall and box sizes before and after the fit, and write the figure to a PNG file.

    path: path of the PNG file
    title: title of the figure
    ious: {"before": (N,), "after": (N,)}, highest IoU of each evaluated ground-truth box with any anchor; "after" is
        optional
    sizes_hw: (M, 2), heights and widths of the ground-truth boxes of the fit, in pixels of the network input
    shapes_hw: {"before": (S, 2), "after": (S, 2)}, heights and widths of the anchors, in pixels of the network input
    image_size: (height, width) of the network input in pixels
    match_threshold: IoU threshold of the recipe, marked in the figure
    """
    with chart_style(_STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 5.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=11)
        _draw_recall(left, ious, match_threshold)
        _draw_shapes(right, sizes_hw, shapes_hw, image_size=image_size)
        figure.savefig(path, dpi=130)


def _draw_recall(axes: Axes, ious: dict[str, np.ndarray], match_threshold: float) -> None:
    """Draw the curve of recall against IoU threshold for the anchors before and after the fit.

    ious: {"before": (N,), "after": (N,)}, highest IoU of each ground-truth box with any anchor
    match_threshold: IoU threshold of the recipe, marked in the plot
    """
    axes.grid(True)
    for (name, best_ious), style in zip(ious.items(), (_BEFORE, _AFTER)):
        recalls = (best_ious[:, None] > IOU_THRESHOLDS).mean(axis=0)
        recall = (best_ious > match_threshold).mean()
        label = f"{name}: recall {recall:.3f} at IoU {match_threshold:g}, mean IoU {best_ious.mean():.3f}"
        axes.plot(IOU_THRESHOLDS, recalls, color=style["color"], linewidth=2, label=label)
        axes.plot(match_threshold, recall, style["marker"], color=style["color"], markersize=6)
    axes.axvline(match_threshold, color=GREY, linestyle="--", linewidth=1)
    axes.set(xlim=(0.29, 0.91), ylim=(0, 1.02), xlabel="IoU", ylabel="recall: fraction of boxes with a higher best IoU")
    axes.set_title("recall of ground-truth boxes (dashed line: match_threshold)")
    axes.legend(**_BELOW)


def _draw_shapes(axes: Axes, sizes_hw: np.ndarray, shapes_hw: dict[str, np.ndarray], image_size: Sequence[int]) -> None:
    """Draw heights against widths of ground-truth boxes and anchors on logarithmic axes.

    sizes_hw: (M, 2), heights and widths of the ground-truth boxes, in pixels of the network input
    shapes_hw: {"before": (S, 2), "after": (S, 2)}, heights and widths of the anchors, in pixels of the network input
    image_size: (height, width) of the network input in pixels
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.grid(True)
    shown = sizes_hw[np.linspace(0, len(sizes_hw) - 1, min(len(sizes_hw), MAX_DOTS)).round().astype(int)]
    label = f"{len(shown):,} ground-truth boxes"
    axes.scatter(shown[:, 1], shown[:, 0], s=6, color="#9aa5b1", alpha=0.35, linewidths=0, label=label)
    for (name, anchors_hw), style, is_filled in zip(shapes_hw.items(), (_BEFORE, _AFTER), (False, True)):
        axes.scatter(
            anchors_hw[:, 1],
            anchors_hw[:, 0],
            s=26 if is_filled else 44,
            marker=style["marker"],
            linewidths=1.3,
            alpha=0.85,
            facecolors=style["color"] if is_filled else "none",
            edgecolors=style["color"],
            label=f"anchors {name}",
        )
    drawn = np.concatenate([shown, *shapes_hw.values()])
    low, high = drawn.min() / 1.15, drawn.max() * 1.15
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low <= tick <= high]
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())
    height, width = image_size
    axes.set(xlabel=f"width in pixels of the {width}x{height} input", ylabel="height in pixels")
    axes.set_title("heights and widths of boxes and anchors")
    legend = axes.legend(**_BELOW, ncols=3, handletextpad=0.2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
