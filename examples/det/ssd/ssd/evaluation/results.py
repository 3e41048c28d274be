"""What eval.py prints, and the files it leaves in output_dir."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path

from ..errors import UserError
from .coco_metrics import ClassMetrics
from .evaluator import EvaluationResult
from .voc_metrics import VocMetrics

# Recipe keys that decide on the figures of a checkpoint.
SETTINGS = ("metric", "min_score", "nms", "nms_threshold", "soft_nms_sigma", "pre_nms_top_k", "max_detections")


def format_scores(evaluated: EvaluationResult) -> str:
    """Lines for the user: pycocotools' table, the classes, the rate, and the mAP as the last."""
    lines = [*evaluated.scores.table.splitlines(), "", *_class_table(evaluated.scores.per_class), ""]
    if evaluated.voc:
        lines += [*_voc_table(evaluated.voc), ""]
    return "\n".join([*lines, _rate(evaluated), f"mAP: {evaluated.mean_ap:.4f}", ""])


def _class_table(per_class: list[ClassMetrics]) -> list[str]:
    width = max(len("class"), *(len(scores.name) for scores in per_class))
    lines = [f"{'class':<{width}}  objects  detections     AP   AP50   AP75  AR100"]
    for scores in per_class:
        figures = "".join(map(_figure, (scores.AP, scores.AP50, scores.AP75, scores.AR100)))
        lines.append(f"{scores.name:<{width}}  {scores.objects:>7}  {scores.detections:>10}{figures}")
    return lines


def _voc_table(voc: VocMetrics) -> list[str]:
    rows = {**voc.per_class, "mean": (voc.AP, voc.AP11)}
    width = max(len("Pascal VOC, IoU 0.5"), *map(len, rows))
    lines = [f"{'Pascal VOC, IoU 0.5':<{width}}   area  11-point"]
    return lines + [f"{name:<{width}}{_figure(area)}{_figure(eleven):>10}" for name, (area, eleven) in rows.items()]


def _figure(value: float) -> str:
    return f"{'-' if value < 0 else f'{value:.3f}':>7}"


def _rate(evaluated: EvaluationResult) -> str:
    watch, total = evaluated.stopwatch, len(evaluated.image_ids)
    seconds = watch.data + watch.first_network + watch.network + watch.postprocessing
    parts = ", ".join(f"{name} {rate:.{0 if rate >= 10 else 1}f}" for name, rate in watch.rates().items())
    share = "" if watch.images == total else f" of the {total}, this device's,"
    return (
        f"{watch.images} images{share} in {seconds:.1f} s, {watch.first_network:.1f} s of them the first batch, which "
        f"compiles; images/s: {parts}"
    )


def check_output(folder: Path) -> None:
    """Raise UserError if results could not be written to a folder, which need not be there yet."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "cannot be written to" if existing.is_dir() else "is no folder"
        raise UserError(f"output_dir: got {folder}, but {existing} {what}, expected a folder of yours; choose another")


def write_results(cfg, evaluated: EvaluationResult, checkpoint: Path) -> None:
    """Write metrics.json, predictions.json (COCO's results format), per_class.csv and report.html to output_dir.

    cfg: Config; raises UserError if they cannot be written
    """
    folder = Path(cfg.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_files(folder, cfg, evaluated, checkpoint)
    except OSError as error:
        raise UserError(
            f"output_dir: got {folder}, where {error.filename or 'a file'} cannot be written "
            f"({(error.strerror or str(error)).lower()}), expected a folder of yours with space left; choose another"
        ) from None


def _write_files(folder: Path, cfg, evaluated: EvaluationResult, checkpoint: Path) -> None:
    from .report.page import write_html_report  # here, so that the evaluation starts before matplotlib is loaded

    (folder / "predictions.json").write_text(json.dumps(evaluated.evaluator.results))
    metrics = evaluated.scores.metrics
    about = {
        "checkpoint": str(checkpoint),
        "images": len(evaluated.evaluator.truth.imgs),
        **{key: getattr(cfg, key) for key in SETTINGS},
        "images_per_second": evaluated.stopwatch.rates(),
    }
    voc = {"VOC_AP": evaluated.voc.AP, "VOC_AP11": evaluated.voc.AP11} if evaluated.voc else {}
    content = {"mAP": evaluated.mean_ap, **metrics, **voc, **about}
    (folder / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")
    rows = [dataclasses.asdict(scores) for scores in evaluated.scores.per_class]
    if evaluated.voc:
        rows = [{**row, **dict(zip(("VOC_AP", "VOC_AP11"), evaluated.voc.per_class[row["name"]]))} for row in rows]
    with open(folder / "per_class.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])  # there is a class at least
        writer.writeheader()
        writer.writerows(rows)
    write_html_report(folder / "report.html", cfg, evaluated, checkpoint)
