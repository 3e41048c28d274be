"""Draw loss and mAP of a training run from its metrics.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from ssd.errors import UserError
from ssd.evaluation.report.charts import BLUE, GREY, RED, chart_style


def draw_curves(path: Path, metrics_csv: Path, title: str) -> None:
    """Draw the losses of each logged step, and AP and AP50 of each evaluation, over epochs.

    path: SVG file to write
    metrics_csv: file that train.py wrote, with evaluations
    Raises UserError if the file is missing or has no evaluation.
    """
    try:
        with open(metrics_csv, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        raise UserError(f"{metrics_csv}: not found. Train with --eval_while_train true first.") from None
    steps, evaluations = [row for row in rows if row["loss"]], [row for row in rows if row["mAP"]]
    if not evaluations:
        raise UserError(f"{metrics_csv}: no evaluation. Train with --eval_while_train true.")
    steps_per_epoch = int(evaluations[-1]["step"]) / int(evaluations[-1]["epoch"])
    with chart_style({"svg.hashsalt": "curves", "axes.titlelocation": "left", "axes.titlesize": 11}):
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullLocator

        figure = Figure(figsize=(10.5, 3.6), layout="constrained", facecolor="white")
        losses, scores = figure.subplots(1, 2)
        epochs = [int(row["step"]) / steps_per_epoch for row in steps]
        for key, label, color in (("loss", "total", BLUE), ("box_loss", "box", RED), ("class_loss", "class", GREY)):
            losses.plot(epochs, [float(row[key]) for row in steps], color=color, label=label, linewidth=1.4)
        losses.set(xlabel="epoch", yscale="log", title=f"{title}: training loss")
        losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        losses.yaxis.set_minor_locator(NullLocator())
        losses.yaxis.set_major_formatter("{x:g}")
        epochs = [int(row["epoch"]) for row in evaluations]
        for key, label, color in (("AP50", "AP at IoU 0.5", GREY), ("mAP", "AP at IoU 0.5 to 0.95 (mAP)", BLUE)):
            scores.plot(epochs, [float(row[key]) for row in evaluations], "o-", color=color, label=label, markersize=3)
        scores.set(xlabel="epoch", ylim=(0, 1), title="average precision on the validation images")
        for axes in (losses, scores):
            axes.set_xlim(0, None)
            axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})
