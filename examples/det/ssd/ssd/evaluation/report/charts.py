"""The charts of the report, as data URIs. matplotlib is imported by those who draw, because it takes half a second."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECALLS = np.linspace(0, 1, 101)
BLUE, RED, GREY, INK = "#2563a8", "#c2452d", "#6b7280", "#1f2933"
_STYLE = {
    "svg.fonttype": "none",  # text stays text: small files, and letters that only the reader's fonts have
    "svg.hashsalt": "report",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # class names may hold dollars
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


def precision_recall_chart(curves: dict[str, np.ndarray], color: str) -> str:
    """One chart of precision over recall. curves: {legend: (101,) precision at the recalls 0, 0.01 … 1}, at most 3"""
    with _figure(4.8, 3.5) as (figure, uri):
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
        for (name, precision), style in zip(curves.items(), ("-", "--", ":")):
            axes.plot(RECALLS, precision, style, color=color, label=name, linewidth=1.8)
        axes.legend(loc="upper right")
    return uri[0]


def small_precision_recall_charts(classes: Sequence[tuple[list[np.ndarray], tuple[int, int, int]]]) -> list[str]:
    """A small chart of each class, without a legend. classes: [(up to 3 curves as above, colour)]"""
    uris = []
    with _figure(2.3, 1.75) as (figure, _):
        axes = figure.add_subplot(xlim=(0, 1.01), ylim=(0, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.tick_params(labelsize=8)
        lines = [axes.plot([], [], style, linewidth=1.5)[0] for style in ("-", "--", ":")]
        for curves, color in classes:  # one figure with other data each time: making figures is the slow part
            for line, precision in zip(lines, curves):
                line.set(data=(RECALLS, precision), color=hex_color(color))
            uris.append(_data_uri(figure))
    return uris


def size_chart(names: Sequence[str], ap: Sequence[float], ar: Sequence[float]) -> str:
    """AP and AR by size of object. names: a label of each size; ap, ar: 0..1, or -1 where there is no such object"""
    with _figure(4.8, 3.5) as (figure, uri):
        places = np.arange(len(names))
        axes = figure.add_subplot(ylim=(0, 1.08), xticks=places, xticklabels=names)
        axes.grid(axis="x", visible=False)
        for offset, values, color, name in ((-0.2, ap, BLUE, "AP"), (0.2, ar, "#9db8d6", "AR, 100 detections")):
            bars = axes.bar(places + offset, np.maximum(values, 0), 0.38, color=color, label=name)
            axes.bar_label(bars, ["–" if value < 0 else f"{value:.3f}" for value in values], padding=2, fontsize=9)
        axes.legend(loc="upper left", ncols=2)
    return uri[0]


def score_chart(hits: np.ndarray, mistakes: np.ndarray, display_score: float) -> str:
    """Histograms of the scores of true and false positives. hits, mistakes: scores in 0..1, any number of each"""
    with _figure(4.8, 3.5) as (figure, uri):
        axes = figure.add_subplot(xlabel="score", ylabel="detections (logarithmic)", xlim=(0, 1))
        bins = np.linspace(0, 1, 41)
        highest = 1
        for scores, color, name in ((mistakes, RED, "false"), (hits, BLUE, "true")):
            counts, _ = np.histogram(scores, bins)
            highest = max(highest, counts.max())
            axes.stairs(counts, bins, fill=True, color=color, alpha=0.25, baseline=0.5)
            label = f"{name} positives: {len(scores):,}"
            axes.stairs(counts, bins, color=color, linewidth=1.6, baseline=0.5, label=label)
        axes.set(yscale="log", ylim=(0.5, 8 * highest))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
        _mark(axes, display_score)
        axes.legend(loc="upper right")
    return uri[0]


def threshold_chart(
    thresholds: np.ndarray, curves: dict[str, np.ndarray], display_score: float, best: float | None
) -> str:
    """Figures over the score from which detections are kept. curves: {legend: (n,) 0..1 or NaN}, at most 3, the last
    one thick; best: a threshold to mark on it"""
    with _figure(4.8, 3.5) as (figure, uri):
        axes = figure.add_subplot(xlabel="lowest score", xlim=(0, 1), ylim=(0, 1.22), yticks=np.linspace(0, 1, 6))
        for (name, values), color, width in zip(curves.items(), (BLUE, "#8a5a9e", INK), (1.5, 1.5, 2.2)):
            axes.plot(thresholds, values, color=color, label=name, linewidth=width)
        if best is not None:
            axes.plot(best, np.interp(best, thresholds, values), "o", color=INK, markersize=5)
        _mark(axes, display_score)
        axes.legend(loc="upper left", ncols=3)
    return uri[0]


def _mark(axes, display_score: float) -> None:
    axes.axvline(display_score, color=GREY, linestyle="--", linewidth=1)


def heat_map(shares: np.ndarray, row_names: Sequence[str], column_names: Sequence[str]) -> str:
    """A matrix of shares as colours. shares: (R, C) 0..1, NaN where there is nothing to show"""
    side = 2.2 + 0.135 * len(row_names)
    with _figure(side + 0.6, side) as (figure, uri):
        axes = figure.add_subplot()
        axes.grid(False)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(column_names)), column_names, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(row_names)), row_names, fontsize=7.5)
        axes.tick_params(length=0)
        axes.set(xlabel="detected", ylabel="annotated")
        figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, format=lambda value, _: f"{value:.0%}")
    return uri[0]


def hex_color(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


@contextlib.contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, list[str]]]:
    """A figure of this size in inches to draw on, and a list that holds its data URI when the block has ended."""
    # Its first use on a machine takes seconds and says so, which is no news in an evaluation's output.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's browser sets the text
        uri: list[str] = []
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, uri
        uri.append(_data_uri(figure))


def _data_uri(figure: Figure) -> str:
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(svg.getvalue()).decode()
