"""What eval.py prints, and the files it leaves in output_dir."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

from .coco_metrics import ClassScores
from .evaluator import Evaluated


def report_scores(evaluated: Evaluated) -> str:
    """Lines for the user: pycocotools' table, the classes, the rate, and the mAP as the last."""
    lines = [*evaluated.scores.table.splitlines(), "", *_class_table(evaluated.scores.per_class), "", _rate(evaluated)]
    return "\n".join([*lines, f"mAP: {evaluated.scores.metrics['AP']:.4f}", ""])


def _class_table(per_class: list[ClassScores]) -> list[str]:
    width = max(len("class"), *(len(scores.name) for scores in per_class))
    lines = [f"{'class':<{width}}  objects  detections     AP   AP50   AP75  AR100"]
    for scores in per_class:
        figures = "".join(
            f"{'-' if value < 0 else f'{value:.3f}':>7}" for value in (scores.AP, scores.AP50, scores.AP75, scores.AR100)
        )
        lines.append(f"{scores.name:<{width}}  {scores.objects:>7}  {scores.detections:>10}{figures}")
    return lines


def _rate(evaluated: Evaluated) -> str:
    watch = evaluated.stopwatch
    seconds = watch.data + watch.first_network + watch.network + watch.postprocessing
    parts = ", ".join(f"{name} {rate:.0f}" for name, rate in watch.rates().items())
    return (
        f"{watch.images} images in {seconds:.1f} s, {watch.first_network:.1f} s of them the first batch, which "
        f"compiles; images/s: {parts}"
    )


def write_results(cfg, evaluated: Evaluated, checkpoint: Path) -> None:
    """Write metrics.json, predictions.json (COCO's results format) and per_class.csv to output_dir. cfg: Config"""
    folder = Path(cfg.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.json").write_text(json.dumps(evaluated.evaluator.results))
    metrics = evaluated.scores.metrics
    about = {
        "checkpoint": str(checkpoint),
        "images": len(evaluated.evaluator.truth.imgs),
        "min_score": cfg.min_score,
        "nms_threshold": cfg.nms_threshold,
        "images_per_second": evaluated.stopwatch.rates(),
    }
    content = {"mAP": metrics["AP"], **metrics, **about}
    (folder / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")
    with open(folder / "per_class.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(ClassScores)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(scores) for scores in evaluated.scores.per_class)
