"""report.html: charts, tables and pictures put in one page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ...data.dataset import read_images
from ...data.images import decode_image
from ...inference.drawing import class_color
from ..evaluator import EvaluationResult
from . import charts, gallery
from .confusion import confusion_matrix
from .error_analysis import KINDS, MISSED, Errors, ap50_of, ap50_without, find_errors
from .matches import Matches, match_detections

MATRIX_CLASSES = 20  # more do not fit as a table, and become a heat map
_CONFUSIONS = 20
_PICTURE_BYTES = 250_000  # of each of 18, so that the page stays below 8 MB
# What each figure says, in the order of METRICS.
FIGURES = (
    ("AP", "mean of the AP at IoU 0.50, 0.55 … 0.95"),
    ("AP50", "AP at IoU 0.50"),
    ("AP75", "AP at IoU 0.75"),
    ("AP_small", "AP of objects up to 32² pixels"),
    ("AP_medium", "AP of objects of 32² to 96² pixels"),
    ("AP_large", "AP of objects from 96² pixels"),
    ("AR1", "recall with 1 detection an image"),
    ("AR10", "recall with 10 detections an image"),
    ("AR100", "recall with 100 detections an image"),
    ("AR_small", "recall of objects up to 32² pixels"),
    ("AR_medium", "recall of objects of 32² to 96² pixels"),
    ("AR_large", "recall of objects from 96² pixels"),
)


def write_html_report(path: Path, cfg, evaluated: EvaluationResult, checkpoint: Path) -> None:
    """Write what an evaluation found as one HTML file. cfg: Config; checkpoint: the file that was evaluated"""
    matches = match_detections(evaluated.evaluator, evaluated.scores.coco)
    errors = find_errors(matches)
    page = _template().render(
        cfg=cfg,
        checkpoint=checkpoint,
        evaluated=evaluated,
        metrics=evaluated.scores.metrics,
        figures=FIGURES,
        matches=matches,
        classes=_classes(evaluated),
        curves=_curves(evaluated),
        sizes=_sizes(evaluated),
        thresholds=_thresholds(matches, cfg.display_score),
        scores=charts.score_chart(matches.scores[matches.hits], matches.scores[matches.mistakes], cfg.display_score),
        confusion=_confusion(matches, cfg.display_score),
        kinds=_kinds(matches, errors, cfg.display_score),
        groups=_gallery(cfg, evaluated, matches, errors),
        recipe=yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )
    path.write_text(page, encoding="utf-8")


def _template():
    import jinja2  # here, like matplotlib, so that commands start without it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = lambda value: "–" if value < 0 else f"{value:.3f}"
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment.get_template("page.html.j2")


def _classes(evaluated: EvaluationResult) -> list[dict]:
    """A row of each class, with its AP by size and a chart."""
    coco = evaluated.scores.coco
    precision = coco.eval["precision"][..., -1]  # (10 IoUs, 101 recalls, classes, 4 sizes), 100 detections an image
    rows, lines = [], []
    for label, scores in enumerate(evaluated.scores.per_class, start=1):
        of_class = precision[:, :, coco.params.catIds.index(evaluated.evaluator.category_ids[label])]
        lines.append((list(_three_curves(of_class[:, :, None, 0]).values()), class_color(label)))
        by_size = [float(of_class[..., size].mean()) for size in (1, 2, 3)]
        figures = [scores.AP, scores.AP50, scores.AP75, scores.AR100, *by_size]
        color = charts.hex_color(class_color(label))
        rows.append({"scores": scores, "color": color, "figures": figures, "chart": None})
    with_objects = [index for index, row in enumerate(rows) if row["scores"].objects]
    drawn = charts.small_precision_recall_charts([lines[index] for index in with_objects])
    for index, chart in zip(with_objects, drawn):
        rows[index]["chart"] = chart
    return rows


def _curves(evaluated: EvaluationResult) -> str | None:
    """The chart of the mean over classes that have objects, None if there are none."""
    precision = evaluated.scores.coco.eval["precision"][:, :, :, 0, -1]  # (10 IoUs, 101 recalls, classes)
    precision = precision[:, :, (precision > -1).all(axis=(0, 1))]
    if not precision.shape[2]:
        return None
    curves = {f"{name}: AP {curve.mean():.3f}": curve for name, curve in _three_curves(precision).items()}
    return charts.precision_recall_chart(curves, charts.BLUE)


def _three_curves(precision: np.ndarray) -> dict[str, np.ndarray]:
    """precision: (10 IoUs, 101 recalls, classes) -> (101,) each"""
    return {
        "IoU 0.50": precision[0].mean(axis=1),
        "IoU 0.75": precision[5].mean(axis=1),
        "mean of IoU 0.50–0.95": precision.mean(axis=(0, 2)),
    }


def _sizes(evaluated: EvaluationResult) -> str:
    coco, metrics = evaluated.scores.coco, evaluated.scores.metrics
    known = set(coco.params.catIds)
    areas = [
        annotation["area"]
        for annotation in coco.cocoGt.dataset["annotations"]
        if annotation["category_id"] in known and not annotation.get("iscrowd")
    ]
    names = []
    for (low, high), name in zip(coco.params.areaRng[1:], ("small", "medium", "large")):
        names.append(f"{name}\n{sum(low <= area <= high for area in areas):,} objects")
    figures = [[metrics[f"{kind}_{size}"] for size in ("small", "medium", "large")] for kind in ("AP", "AR")]
    return charts.size_chart(names, *figures)


def _thresholds(matches: Matches, display_score: float) -> dict:
    """Precision, recall and F1 of all classes together by the lowest score that is let in: a chart, and the best F1."""
    thresholds = np.linspace(0, 1, 101)
    hits, mistakes = (
        np.array([(matches.scores[chosen] >= threshold).sum() for threshold in thresholds])
        for chosen in (matches.hits, matches.mistakes)
    )
    detected, objects = hits + mistakes, len(matches.objects)
    with np.errstate(invalid="ignore"):  # 0 / 0 is no number, and no line in the chart
        precision, recall, f1 = hits / detected, hits / np.float64(objects), 2 * hits / (detected + np.float64(objects))
    best = int(f1.argmax()) if hits.any() else None
    about = {"f1": f1[best], "score": thresholds[best]} if best is not None else None
    curves = {"precision": precision, "recall": recall, "F1": f1}
    return {"chart": charts.threshold_chart(thresholds, curves, display_score, about and about["score"]), "best": about}


def _confusion(matches: Matches, min_score: float) -> dict:
    """The matrix with `nothing` last, as counts and as shares of a row, or a chart if there are many classes; and the
    most frequent confusions"""
    counts = np.roll(confusion_matrix(matches, min_score), -1, axis=(0, 1))
    names = list(matches.classes[1:])
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, counts / np.maximum(sums, 1), np.nan)
    off_diagonal = counts[:-1, :-1] * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:_CONFUSIONS]
    frequent = [
        {"names": (names[row], names[column]), "count": int(counts[row, column]), "share": shares[row, column]}
        for row, column in zip(*np.unravel_index(order, off_diagonal.shape))
        if off_diagonal[row, column]
    ]
    row_names = [*names, "(nothing)"]
    rows = [
        (name, list(zip(row.tolist(), share.tolist())))
        for name, row, share in zip(row_names, counts, np.nan_to_num(shares))
    ]
    rows[-1][1].pop()  # nothing annotated and nothing detected cannot be counted
    is_large = len(names) > MATRIX_CLASSES
    chart = charts.heat_map(shares, row_names, [*names, "(not found)"]) if is_large else None
    return {"names": names, "rows": rows, "frequent": frequent, "chart": chart}


def _kinds(matches: Matches, errors: Errors, min_score: float) -> list[dict]:
    """A row of each kind of error: how many there are, how many of them are shown, and AP50 without them."""
    ap50 = ap50_of(matches)
    rows = []
    for kind in KINDS:
        wrong = errors.missed if kind == MISSED else errors.kinds == kind
        shown = None if kind == MISSED else int((wrong & (matches.scores >= min_score)).sum())
        fixed = ap50_without(matches, errors, kind)
        rows.append({"name": kind, "count": int(wrong.sum()), "shown": shown, "ap50": fixed, "gain": fixed - ap50})
    largest = max(row["gain"] for row in rows)
    return [{**row, "share": row["gain"] / largest if largest > 0 else 0} for row in rows]


def _gallery(cfg, evaluated: EvaluationResult, matches: Matches, errors: Errors) -> dict[str, list[dict]]:
    """The pictures of each group. cfg: Config"""
    scores = gallery.score_images(matches, cfg.display_score)
    in_shards = np.flatnonzero(np.isin(matches.image_ids, evaluated.image_ids))
    groups = gallery.choose_images(scores, in_shards)
    ids = {image: int(matches.image_ids[image]) for images in groups.values() for image in images}
    encoded = read_images(Path(cfg.data_dir), "val", ids.values())
    pictures = {}
    for image, image_id in ids.items():
        drawn = gallery.draw_match(matches, image, decode_image(encoded[image_id]), cfg.display_score)
        summary, lines = gallery.describe(matches, errors, scores, image, cfg.display_score)
        name = evaluated.evaluator.truth.imgs[image_id].get("file_name", "")
        pictures[image] = {"uri": _jpeg_uri(drawn), "height": drawn.shape[0], "width": drawn.shape[1]}
        pictures[image] |= {"id": image_id, "name": name, "summary": summary, "lines": lines}
    return {group: [pictures[image] for image in groups[group]] for group in ("best", "mistakes", "worst")}


def _jpeg_uri(image: np.ndarray) -> str:
    """image: (H, W, 3) uint8 RGB"""
    for quality in (88, 75, 60, 40, 20):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        if file.tell() <= _PICTURE_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
