"""Write report.html, one page with the charts, tables and example images of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import yaml

from ...config.schema import Config
from ...data.dataset import read_images
from ...data.dataset_info import shards_are_upright
from ...data.images import decode_image
from ...errors import count_noun
from ...inference.drawing import class_color
from ..coco_metrics import METRICS, ClassMetrics
from ..evaluator import EvaluationResult
from . import charts, gallery
from .confusion import confusion_matrix
from .error_analysis import (
    ERROR_TYPES,
    MISSED,
    DetectionErrors,
    classify_errors,
    compute_ap50,
    compute_ap50_without,
)
from .matches import Matches, collect_matches

if TYPE_CHECKING:
    import jinja2

MAX_TABLE_CLASSES = 20  # with more classes, a heat map replaces the table of the confusion matrix, which is too wide
MAX_LISTED_CONFUSIONS = 20  # pairs of annotated and detected class


class ClassRow(NamedTuple):
    """Row of the table of classes.

    color: color of the class as #rrggbb
    values: AP, AP50, AP75, AR100, and AP of small, medium and large objects, each 0..1, or -1 without objects
    chart: precision-recall chart as a data URI; None for a class without objects
    """

    metrics: ClassMetrics
    color: str
    values: list[float]
    chart: str | None


class ErrorRow(NamedTuple):
    """Row of the table of errors, for one type of error.

    num_errors: number of errors of this type
    num_shown: number of these errors with a score of at least display_score; None for missed objects
    ap50: AP50, 0..1, if all errors of this type were fixed
    gain: increase of AP50 by fixing all errors of this type
    gain_share: gain divided by the largest gain of all types, at most 1
    """

    error_type: str
    num_errors: int
    num_shown: int | None
    ap50: float
    gain: float
    gain_share: float


def write_html_report(path: Path, cfg: Config, result: EvaluationResult, checkpoint: Path) -> None:
    """Write the evaluation report of a checkpoint as one HTML file."""
    matches = collect_matches(result.evaluator, result.coco_metrics.coco_eval)
    errors = classify_errors(matches)
    page = _load_template().render(
        cfg=cfg,
        checkpoint=checkpoint,
        result=result,
        metrics=result.coco_metrics.metrics,
        metric_descriptions=METRICS,
        matches=matches,
        class_rows=_class_rows(result),
        precision_recall_chart=_precision_recall_chart(result),
        size_chart=_size_chart(result),
        thresholds=_threshold_section(matches, cfg.display_score),
        score_histogram=charts.score_histogram(
            true_positive_scores=matches.scores[matches.true_positives],
            false_positive_scores=matches.scores[matches.false_positives],
            display_score=cfg.display_score,
        ),
        confusion=_confusion_section(matches, cfg.display_score),
        error_rows=_error_rows(matches, errors, cfg.display_score),
        max_captions=gallery.MAX_CAPTIONS,
        picture_groups=_picture_groups(cfg, result, matches=matches, errors=errors),
        recipe=yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )
    path.write_text(page, encoding="utf-8", errors="replace")  # file names may have halves of characters


def _load_template() -> jinja2.Template:
    import jinja2  # imported late, so that commands start without jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["metric"] = lambda value: "–" if value < 0 else f"{value:.3f}"
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment.get_template("page.html.j2")


def _class_rows(result: EvaluationResult) -> list[ClassRow]:
    coco_eval = result.coco_metrics.coco_eval
    precision = coco_eval.eval["precision"][..., -1]  # (10 IoUs, 101 recalls, classes, 4 sizes)
    rows, chart_inputs = [], []
    for label, metrics in enumerate(result.coco_metrics.per_class, start=1):
        class_precision = precision[:, :, coco_eval.params.catIds.index(result.evaluator.category_ids[label])]
        ap_by_size = [float(class_precision[..., size].mean()) for size in (1, 2, 3)]
        color = charts.hex_color(class_color(label))
        values = [metrics.AP, metrics.AP50, metrics.AP75, metrics.AR100, *ap_by_size]
        rows.append(ClassRow(metrics=metrics, color=color, values=values, chart=None))
        if metrics.objects:
            chart_inputs.append((list(_curves_by_iou(class_precision[:, :, None, 0]).values()), color))
    chart_uris = iter(charts.small_precision_recall_charts(chart_inputs))
    return [row._replace(chart=next(chart_uris)) if row.metrics.objects else row for row in rows]


def _precision_recall_chart(result: EvaluationResult) -> str | None:
    """Draw the mean precision-recall curves of the classes with ground truth. Returns None without ground truth."""
    precision = result.coco_metrics.coco_eval.eval["precision"][:, :, :, 0, -1]  # (10 IoUs, 101 recalls, classes)
    precision = precision[:, :, (precision > -1).all(axis=(0, 1))]
    if not precision.shape[2]:
        return None
    curves = {f"{name}: AP {curve.mean():.3f}": curve for name, curve in _curves_by_iou(precision).items()}
    return charts.precision_recall_chart(curves, charts.BLUE)


def _curves_by_iou(precision: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the mean precision of all classes at IoU 0.50, at IoU 0.75, and averaged over all 10 IoUs.

    precision: (10 IoUs, 101 recalls, classes), 0..1
    Returns {legend: (101,) precision at the recalls 0, 0.01, …, 1}.
    """
    return {
        "IoU 0.50": precision[0].mean(axis=1),
        "IoU 0.75": precision[5].mean(axis=1),
        "mean of IoU 0.50–0.95": precision.mean(axis=(0, 2)),
    }


def _size_chart(result: EvaluationResult) -> str:
    coco_eval, metrics = result.coco_metrics.coco_eval, result.coco_metrics.metrics
    category_ids = set(coco_eval.params.catIds)
    areas = [
        annotation["area"]
        for annotation in coco_eval.cocoGt.dataset["annotations"]
        if annotation["category_id"] in category_ids and not annotation.get("iscrowd")
    ]
    sizes = ("small", "medium", "large")
    size_labels = []
    for (low, high), size in zip(coco_eval.params.areaRng[1:], sizes):
        num_objects = sum(low <= area <= high for area in areas)
        size_labels.append(f"{size}\n{count_noun(num_objects, 'object')}")
    return charts.size_chart(
        size_labels, ap=[metrics[f"AP_{size}"] for size in sizes], ar=[metrics[f"AR_{size}"] for size in sizes]
    )


def _threshold_section(matches: Matches, display_score: float) -> dict:
    """Compute and plot precision, recall and F1 at each score threshold, for the detections of all classes together.

    Returns {"chart": data URI, "best": {"f1", "score"} at the highest F1, or None without a true positive}.
    """
    thresholds = np.linspace(0, 1, 101)
    num_gt = np.float64(len(matches.ground_truth))
    true_positives = _count_from_threshold(matches.scores[matches.true_positives], thresholds)
    num_detections = true_positives + _count_from_threshold(matches.scores[matches.false_positives], thresholds)
    with np.errstate(invalid="ignore"):  # 0 / 0 becomes NaN, a gap in the chart
        precision = true_positives / num_detections
        recall = true_positives / num_gt
        f1 = 2 * true_positives / (num_detections + num_gt)
    best = None
    if true_positives.any():
        best = {"f1": f1[f1.argmax()], "score": float(thresholds[f1.argmax()])}
    chart = charts.threshold_chart(
        thresholds,
        curves={"precision": precision, "recall": recall, "F1": f1},
        display_score=display_score,
        best_threshold=best["score"] if best else None,
    )
    return {"chart": chart, "best": best}


def _count_from_threshold(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Count the scores at or above each threshold. Returns (T,) int for (T,) thresholds."""
    return np.array([(scores >= threshold).sum() for threshold in thresholds])


def _confusion_section(matches: Matches, min_score: float) -> dict:
    """Prepare the confusion matrix for the page, with background as the last row and column.

    Returns a dict:
    names: class names, without background
    rows: [(row name, [(count, fraction of the row, 0..1)])]
    most_frequent: confusions of two object classes (without background), by descending count
    chart: data URI of a heat map that replaces the table, or None for up to MAX_TABLE_CLASSES classes
    """
    counts = np.roll(confusion_matrix(matches, min_score), -1, axis=(0, 1))
    names = list(matches.classes[1:])
    row_sums = counts.sum(axis=1, keepdims=True)
    row_shares = np.where(row_sums > 0, counts / np.maximum(row_sums, 1), np.nan)

    off_diagonal = counts[:-1, :-1] * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:MAX_LISTED_CONFUSIONS]
    most_frequent = [
        {
            "annotated": names[row],
            "detected": names[column],
            "count": int(counts[row, column]),
            "share": row_shares[row, column],
        }
        for row, column in zip(*np.unravel_index(order, off_diagonal.shape))
        if off_diagonal[row, column]
    ]
    row_names = [*names, "(background)"]
    rows = [
        (name, list(zip(row_counts.tolist(), shares.tolist())))
        for name, row_counts, shares in zip(row_names, counts, np.nan_to_num(row_shares))
    ]
    rows[-1][1].pop()  # undetected background cannot be counted
    chart = None
    if len(names) > MAX_TABLE_CLASSES:
        chart = charts.confusion_heat_map(row_shares, row_names=row_names, column_names=[*names, "(missed)"])
    return {"names": names, "rows": rows, "most_frequent": most_frequent, "chart": chart}


def _error_rows(matches: Matches, errors: DetectionErrors, display_score: float) -> list[ErrorRow]:
    ap50 = compute_ap50(matches)
    ap50_without = {error_type: compute_ap50_without(matches, errors, error_type) for error_type in ERROR_TYPES}
    max_gain = max(ap50_without.values()) - ap50
    rows = []
    for error_type in ERROR_TYPES:
        is_error = errors.missed_gt if error_type == MISSED else errors.types == error_type
        num_shown = None if error_type == MISSED else int((is_error & (matches.scores >= display_score)).sum())
        gain = ap50_without[error_type] - ap50
        rows.append(
            ErrorRow(
                error_type=error_type,
                num_errors=int(is_error.sum()),
                num_shown=num_shown,
                ap50=ap50_without[error_type],
                gain=gain,
                gain_share=gain / max_gain if max_gain > 0 else 0.0,
            )
        )
    return rows


def _picture_groups(
    cfg: Config, result: EvaluationResult, matches: Matches, errors: DetectionErrors
) -> dict[str, list[dict]]:
    """Draw the example images and list their errors. Returns {group: [template variables of each image]}."""
    scores = gallery.compute_image_scores(matches, cfg.display_score)
    in_shards = np.flatnonzero(np.isin(matches.image_ids, result.image_ids))
    groups = gallery.select_images(scores, in_shards)
    ids = {index: int(matches.image_ids[index]) for indices in groups.values() for index in indices}
    encoded = read_images(Path(cfg.data_dir), "val", ids.values())
    upright = shards_are_upright(Path(cfg.data_dir))
    pictures = {}
    for image_index, image_id in ids.items():
        pixels = decode_image(encoded[image_id], upright=upright)
        drawn = gallery.draw_image_matches(matches, image_index, pixels=pixels, min_score=cfg.display_score)
        summary, lines = gallery.summarize_image(
            matches, errors, scores=scores, image_index=image_index, min_score=cfg.display_score
        )
        pictures[image_index] = {
            "uri": gallery.to_jpeg_uri(drawn),
            "height": drawn.shape[0],
            "width": drawn.shape[1],
            "id": image_id,
            "name": result.evaluator.ground_truth.imgs[image_id].get("file_name", ""),
            "summary": summary,
            "lines": lines,
        }
    return {group: [pictures[index] for index in groups[group]] for group in ("best", "confident_errors", "worst")}
