"""Format the metrics of an evaluation for the terminal, and write the results to files in output_dir."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import logging
import os
from pathlib import Path

from ..config.schema import EVALUATION, Config, keys_marked
from ..errors import UserError, count_noun, os_reason
from ..runtime.archive import archive_files
from ..runtime.atomic_write import move_all, work_folder
from ..runtime.folder_lock import lock_folder
from ..runtime.heartbeat import activity
from ..runtime.read_json import read_json
from .coco_metrics import ClassMetrics
from .evaluator import EvaluationResult
from .voc_metrics import VocMetrics

RESULT_NAMES = ("predictions.json", "metrics.json", "per_class.csv", "report.html")
WRITE_WAIT_S = 60  # seconds to wait for another evaluation that writes its files, which takes a few seconds

log = logging.getLogger(__name__)


def format_metrics(result: EvaluationResult) -> str:
    """Format the metrics of an evaluation as text for the terminal.

    Returns pycocotools' table, metrics of each class, Pascal VOC's metrics if computed, throughput and mAP.
    """
    lines = [*result.coco_metrics.table.splitlines(), "", *_format_classes(result.coco_metrics.per_class), ""]
    if result.voc_metrics:
        lines += [*_format_voc_metrics(result.voc_metrics), ""]
    return "\n".join([*lines, _format_throughput(result), _format_mean_ap(result), ""])


def _format_classes(per_class: list[ClassMetrics]) -> list[str]:
    width = max(len("class"), *(len(metrics.name) for metrics in per_class))
    lines = [f"{'class':<{width}}  objects  detections     AP   AP50   AP75  AR100"]
    for metrics in per_class:
        values = "".join(_format_metric(value) for value in (metrics.AP, metrics.AP50, metrics.AP75, metrics.AR100))
        lines.append(f"{metrics.name:<{width}}  {metrics.objects:>7}  {metrics.detections:>10}{values}")
    return lines


def _format_voc_metrics(voc_metrics: VocMetrics) -> list[str]:
    rows = [(name, metrics.AP, metrics.AP11) for name, metrics in voc_metrics.per_class.items()]
    rows.append(("mean", voc_metrics.AP, voc_metrics.AP11))
    title = "Pascal VOC, IoU 0.5"
    width = max(len(title), *(len(name) for name, _, _ in rows))
    lines = [f"{title:<{width}}   area  11-point"]
    for name, ap, ap11 in rows:
        lines.append(f"{name:<{width}}{_format_metric(ap)}{_format_metric(ap11):>10}")
    return lines


def _format_metric(value: float) -> str:
    return f"{'-' if value < 0 else f'{value:.3f}':>7}"


def _format_mean_ap(result: EvaluationResult) -> str:
    if result.mean_ap < 0:
        return "mAP: undefined, because the validation images have no ground-truth boxes"
    return f"mAP: {result.mean_ap:.4f}"


def _format_throughput(result: EvaluationResult) -> str:
    times, num_images = result.times, len(result.image_ids)
    seconds = times.data_seconds + times.first_batch_seconds + times.network_seconds + times.postprocessing_seconds
    rates = ", ".join(f"{name} {rate:.{0 if rate >= 10 else 1}f}" for name, rate in times.images_per_second().items())
    images = count_noun(times.num_images, "image")
    if times.num_images != num_images:
        images = f"{times.num_images} of {num_images} images on this device"
    return (
        f"{images} in {seconds:.1f} s, including {times.first_batch_seconds:.1f} s to compile and run the first batch. "
        f"Throughput in images/s: {rates}."
    )


@activity("writing report.html")
def write_results(cfg: Config, result: EvaluationResult, checkpoint: Path) -> None:
    """Write the results of an evaluation to output_dir.

    The files are metrics.json, predictions.json (COCO's results format), per_class.csv and report.html. They appear in
    output_dir when all four are complete. Files of an earlier evaluation are replaced if its metrics and detections
    are the same, and are otherwise moved to the subfolder earlier-N.

    checkpoint: path of the evaluated checkpoint
    Raises UserError if a file cannot be written.
    """
    folder = Path(cfg.output_dir)
    try:
        # Another evaluation may be writing to the folder. Its files must not mix with those of this one.
        with (
            lock_folder(folder, "output_dir", wait_s=WRITE_WAIT_S),
            work_folder(folder, kind="eval-") as work,
        ):
            _write_files(work, cfg, result=result, checkpoint=checkpoint)
            previous = [folder / name for name in RESULT_NAMES if (folder / name).exists()]
            for path in previous:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(path))
            if _has_equal_results(folder, work):
                for name in RESULT_NAMES:
                    os.replace(work / name, folder / name)
            else:
                archive = archive_files(folder, previous, key="output_dir")
                if archive:
                    log.info(f"Moved the results of an earlier evaluation to {archive}.")
                move_all([(work / name, folder / name) for name in RESULT_NAMES])
    except OSError as error:
        raise UserError(
            f"output_dir: {error.filename or folder} cannot be written ({os_reason(error)}). "
            "Set --output_dir to a writable folder with free space."
        ) from None


def _has_equal_results(first: Path, second: Path) -> bool:
    """Return True if two folders contain the same detections and metrics, apart from the throughput."""

    def read(folder: Path) -> tuple[bytes, dict]:
        metrics = read_json(folder / "metrics.json")
        return (folder / "predictions.json").read_bytes(), {**metrics, "images_per_second": None}

    try:
        return read(first) == read(second)
    except (OSError, ValueError, TypeError):
        return False


def _write_files(folder: Path, cfg: Config, result: EvaluationResult, checkpoint: Path) -> None:
    from .report.page import write_html_report  # imported late, so that evaluation starts without matplotlib

    (folder / "predictions.json").write_text(json.dumps(result.evaluator.results))
    _write_metrics(folder / "metrics.json", cfg, result=result, checkpoint=checkpoint)
    _write_class_table(folder / "per_class.csv", result)
    write_html_report(folder / "report.html", cfg, result=result, checkpoint=checkpoint)


def _write_metrics(path: Path, cfg: Config, result: EvaluationResult, checkpoint: Path) -> None:
    mean_ap = result.mean_ap if result.mean_ap >= 0 else None
    content: dict[str, object] = {"mAP": mean_ap, **result.coco_metrics.metrics}
    if result.voc_metrics:
        content |= {"VOC_AP": result.voc_metrics.AP, "VOC_AP11": result.voc_metrics.AP11}
    content |= {
        "checkpoint": str(checkpoint),
        "images": len(result.evaluator.ground_truth.imgs),
        **{key: getattr(cfg, key) for key in keys_marked(EVALUATION)},
        "images_per_second": result.times.images_per_second(),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _write_class_table(path: Path, result: EvaluationResult) -> None:
    rows = [dataclasses.asdict(metrics) for metrics in result.coco_metrics.per_class]
    if result.voc_metrics:
        for row in rows:
            voc_metrics = result.voc_metrics.per_class[row["name"]]
            row |= {"VOC_AP": voc_metrics.AP, "VOC_AP11": voc_metrics.AP11}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])  # every detector has at least one class, so rows is not empty
        writer.writeheader()
        writer.writerows(rows)
