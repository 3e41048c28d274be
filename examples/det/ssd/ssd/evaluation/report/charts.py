"""Charts of the report, drawn as SVG data URIs. Functions import matplotlib lazily, because the import takes 0.5 s."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..average_precision import RECALL_THRESHOLDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY, INK = "#2563a8", "#c2452d", "#6b7280", "#1f2933"
_STYLE = {
    "svg.fonttype": "none",  # write text as text, not as paths: files stay small, and browsers have more fonts
    "svg.hashsalt": "report",  # fixed element ids, so that equal charts have equal bytes
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # class names may contain dollar signs
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextlib.contextmanager
def chart_style(overrides: Mapping[str, object] | None = None) -> Iterator[None]:
    """Apply this project's chart style to matplotlib inside a `with` block.

    overrides: matplotlib rcParams that replace or extend the style
    """
    # Hide the message that matplotlib builds its font cache on first use. The user need not act on this message.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib

    with matplotlib.rc_context({**_STYLE, **(overrides or {})}):
        yield


def precision_recall_chart(curves: Mapping[str, np.ndarray], color: str) -> str:
    """Draw a precision-recall chart.

    curves: {legend: (101,) precision, 0..1, at the recalls 0, 0.01 … 1}, at most 3 curves
    color: color of all curves as #rrggbb
    Returns the chart as a data URI.
    """
    with _svg_chart(width=4.8, height=3.5) as (figure, uris):
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
        for (name, precision), line_style in zip(curves.items(), ("-", "--", ":")):
            axes.plot(RECALL_THRESHOLDS, precision, linestyle=line_style, color=color, label=name, linewidth=1.8)
        axes.legend(loc="best")  # where it hides least of the curves
    return uris[0]


def small_precision_recall_charts(classes: Sequence[tuple[list[np.ndarray], str]]) -> list[str]:
    """Draw a small precision-recall chart of each class, without a legend.

    classes: (curves, color) of each class: at most 3 curves of (101,) precision, 0..1, and one color as #rrggbb
    Returns the data URI of each chart.
    """
    chart_uris = []
    with _svg_chart(width=2.3, height=1.75) as (figure, _):
        axes = figure.add_subplot(xlim=(0, 1.01), ylim=(0, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.tick_params(labelsize=8)
        lines = [axes.plot([], [], linestyle=line_style, linewidth=1.5)[0] for line_style in ("-", "--", ":")]
        for curves, color in classes:  # all charts share one figure, because creating figures is the slow part
            for line, precision in zip(lines, curves):
                line.set(data=(RECALL_THRESHOLDS, precision), color=color)
            chart_uris.append(_to_data_uri(figure))
    return chart_uris


def size_chart(size_labels: Sequence[str], ap: Sequence[float], ar: Sequence[float]) -> str:
    """Draw a bar chart of AP and AR by object size.

    size_labels: label of each size
    ap: AP of each size, 0..1, or -1 for a size without objects
    ar: AR of each size, 0..1, or -1 for a size without objects
    Returns the chart as a data URI.
    """
    with _svg_chart(width=4.8, height=3.5) as (figure, uris):
        positions = np.arange(len(size_labels))
        axes = figure.add_subplot(ylim=(0, 1.08), xticks=positions, xticklabels=size_labels)
        axes.grid(axis="x", visible=False)
        for offset, values, color, name in ((-0.2, ap, BLUE, "AP"), (0.2, ar, "#9db8d6", "AR, 100 detections")):
            bars = axes.bar(positions + offset, np.maximum(values, 0), width=0.38, color=color, label=name)
            axes.bar_label(bars, ["–" if value < 0 else f"{value:.3f}" for value in values], padding=2, fontsize=9)
        axes.legend(loc="upper left", ncols=2)
    return uris[0]


def score_histogram(true_positive_scores: np.ndarray, false_positive_scores: np.ndarray, display_score: float) -> str:
    """Draw histograms of the scores of true positives and false positives.

    true_positive_scores: (T,) float, scores of the true positives, 0..1
    false_positive_scores: (F,) float, scores of the false positives, 0..1
    display_score: score, 0..1, that is marked by a vertical line
    Returns the chart as a data URI.
    """
    with _svg_chart(width=4.8, height=3.5) as (figure, uris):
        axes = figure.add_subplot(xlabel="score", ylabel="number of detections (log scale)", xlim=(0, 1))
        bins = np.linspace(0, 1, 41)
        highest = 1
        for scores, color, name in ((false_positive_scores, RED, "false"), (true_positive_scores, BLUE, "true")):
            counts, _ = np.histogram(scores, bins)
            highest = max(highest, counts.max())
            axes.stairs(counts, bins, fill=True, color=color, alpha=0.25, baseline=0.5)
            label = f"{name} positives: {len(scores):,}"
            axes.stairs(counts, bins, color=color, linewidth=1.6, baseline=0.5, label=label)
        axes.set(yscale="log", ylim=(0.5, 8 * highest))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
        _draw_score_line(axes, display_score)
        axes.legend(loc="upper right")
    return uris[0]


def threshold_chart(
    thresholds: np.ndarray, curves: Mapping[str, np.ndarray], display_score: float, best_threshold: float | None
) -> str:
    """Draw curves of metrics at different score thresholds.

    thresholds: (N,) float, score thresholds, 0..1, ascending
    curves: {legend: (N,) metric, 0..1, or NaN for a gap}, at most 3 curves; the last curve is thick
    display_score: score threshold, 0..1, that is marked by a vertical line
    best_threshold: score threshold, 0..1, that is marked by a dot on the last curve; None for no dot
    Returns the chart as a data URI.
    """
    with _svg_chart(width=4.8, height=3.5) as (figure, uris):
        axes = figure.add_subplot(
            xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.22), yticks=np.linspace(0, 1, num=6)
        )
        for (name, values), color, width in zip(curves.items(), (BLUE, "#8a5a9e", INK), (1.5, 1.5, 2.2)):
            axes.plot(thresholds, values, color=color, label=name, linewidth=width)
        if best_threshold is not None:
            best_value = np.interp(best_threshold, thresholds, list(curves.values())[-1])
            axes.plot(best_threshold, best_value, "o", color=INK, markersize=5)
        _draw_score_line(axes, display_score)
        axes.legend(loc="upper left", ncols=3)
    return uris[0]


def confusion_heat_map(row_shares: np.ndarray, row_names: Sequence[str], column_names: Sequence[str]) -> str:
    """Draw a confusion matrix as a heat map.

    row_shares: (R, C) float, each count / sum of its row, 0..1; NaN in a row of zeros
    row_names: R names of annotated classes
    column_names: C names of detected classes
    Returns the chart as a data URI.
    """
    side = 2.2 + 0.135 * len(row_names)
    row_names, column_names = list(map(_to_xml_text, row_names)), list(map(_to_xml_text, column_names))
    with _svg_chart(width=side + 0.6, height=side) as (figure, uris):
        axes = figure.add_subplot()
        axes.grid(False)
        image = axes.imshow(row_shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(column_names)), column_names, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(row_names)), row_names, fontsize=7.5)
        axes.tick_params(length=0)
        axes.set(xlabel="detected", ylabel="annotated")
        figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, format=lambda value, _: f"{value:.0%}")
    return uris[0]


def _to_xml_text(name: str) -> str:
    """Replace the characters that XML, and so SVG, cannot contain: browsers would refuse the whole chart."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", name)


def hex_color(rgb: tuple[int, int, int]) -> str:
    """Format an RGB color, 0..255 per channel, as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _draw_score_line(axes: Axes, score: float) -> None:
    axes.axvline(score, color=GREY, linestyle="--", linewidth=1)


@contextlib.contextmanager
def _svg_chart(width: float, height: float) -> Iterator[tuple[Figure, list[str]]]:
    """Create an empty figure, and convert the figure to a data URI when the `with` block ends.

    width: width of the figure in inches
    height: height of the figure in inches
    Yields (figure, uris). The list `uris` contains the data URI after the block.
    """
    with chart_style(), warnings.catch_warnings():
        from matplotlib.figure import Figure

        # The browser renders the text, so glyphs that are missing from matplotlib's font do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        uris: list[str] = []
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, uris
        uris.append(_to_data_uri(figure))


def _to_data_uri(figure: Figure) -> str:
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(svg.getvalue()).decode()
