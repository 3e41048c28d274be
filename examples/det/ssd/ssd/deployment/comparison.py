"""Compare an exported model with the checkpoint in MindSpore. No model is published before its comparison passes."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from ..boxes.multiclass_nms import Detections, MulticlassNMS
from ..config.schema import Config
from ..data.dataset import create_dataset, iterate_batches
from ..data.dataset_info import DATASET_INFO_NAME
from ..errors import UserError

NUM_IMAGES = 8
TOLERANCE = 1e-4  # largest difference of box coordinates (fractions of the image) and of scores


@dataclasses.dataclass(frozen=True)
class ComparisonImages:
    """Images on which a model is compared.

    pixels: (NUM_IMAGES, H, W, 3) uint8 RGB
    description: where the images come from
    """

    pixels: np.ndarray
    description: str


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of a detector for a batch.

    boxes_yxyx: (B, N, 4), corners as fractions of the image size
    scores: (B, N, K - 1) scores of all object classes, or (B, N) scores of candidates
    labels: (B, N) labels of candidates; None for all anchors
    """

    boxes_yxyx: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None = None


def load_images(cfg: Config) -> ComparisonImages:
    """Return the first validation images of data_dir, repeated if there are fewer, or drawn images without data."""
    if (Path(cfg.data_dir) / DATASET_INFO_NAME).is_file():
        dataset = create_dataset(cfg.model_copy(update={"batch_size": NUM_IMAGES}), "val")
        pixels = next(iterate_batches(dataset))["image"]
        rows = np.arange(NUM_IMAGES) % len(pixels)
        count = min(NUM_IMAGES, len(pixels))
        return ComparisonImages(pixels[rows], f"{count} validation images of {cfg.data_dir}")
    return ComparisonImages(draw_images(cfg.image_size), f"{NUM_IMAGES} drawn images")


def load_training_images(cfg: Config, count: int) -> np.ndarray:
    """Return training images of data_dir without augmentation, at most `count`. Returns (N, H, W, 3) uint8 RGB.

    Raises UserError if data_dir contains no training images.
    """
    off = dict.fromkeys(("crop_prob", "zoom_out_prob", "color_prob", "flip_prob", "scale_jitter"), 0)
    plain = cfg.model_copy(update={"augment": cfg.augment.model_copy(update=off), "batch_size": 1})
    batches = iterate_batches(create_dataset(plain, "train"))
    return np.concatenate([batch["image"] for batch in itertools.islice(batches, count)])


def draw_images(image_size: tuple[int, int]) -> np.ndarray:
    """Draw NUM_IMAGES images of random ellipses and rectangles on noise. Returns (NUM_IMAGES, H, W, 3) uint8 RGB."""
    height, width = image_size
    rng = np.random.default_rng(0)
    images = rng.integers(100, 156, (NUM_IMAGES, height, width, 3), dtype=np.uint8)
    for image in images:
        for index in range(6):
            color = rng.integers(0, 256, 3)
            y, x = rng.integers(0, height), rng.integers(0, width)
            side_y, side_x = rng.integers(4, height // 3 + 5), rng.integers(4, width // 3 + 5)
            if index % 2:
                image[y : y + side_y, x : x + side_x] = color
            else:
                rows, columns = np.ogrid[:height, :width]
                image[((rows - y) / side_y) ** 2 + ((columns - x) / side_x) ** 2 <= 1] = color
    return images


def compare_anchors(model: Outputs, reference: Outputs, *, place: str) -> dict[str, float]:
    """Compare the boxes and scores of all anchors.

    place: name of the model, for the message
    Returns {"boxes": largest difference, "scores": largest difference}.
    Raises UserError if a difference is above TOLERANCE, or not a number.
    """
    differences = {
        "boxes": float(np.abs(model.boxes_yxyx - reference.boxes_yxyx).max()),
        "scores": float(np.abs(model.scores - reference.scores).max()),
    }
    _refuse_large(differences, place=place)
    return differences


def check_candidates(model: Outputs, all_anchors: Outputs, *, place: str) -> None:
    """Check that the candidates are the highest scores of all anchors.

    model: candidates of the model
    all_anchors: boxes and scores of all anchors of the same model and images
    Raises UserError if a candidate is missing or different. Candidates with the lowest score are not compared, because
    the choice among equal scores is arbitrary.
    """
    for image in range(len(model.scores)):
        cutoff = model.scores[image].min()
        anchor, class_index = np.nonzero(all_anchors.scores[image] > cutoff)
        expected = _sorted_rows(
            all_anchors.boxes_yxyx[image][anchor], all_anchors.scores[image][anchor, class_index], class_index + 1
        )
        assert model.labels is not None
        kept = model.scores[image] > cutoff
        found = _sorted_rows(model.boxes_yxyx[image][kept], model.scores[image][kept], model.labels[image][kept])
        if expected.shape != found.shape or not np.array_equal(expected, found):
            raise UserError(
                f"{place}: the candidates are not the highest scores. Nothing was written. Report the recipe."
            )


def check_detections(found: list[Detections], expected: list[Detections], *, place: str) -> None:
    """Check that the model's own NMS gives the detections of MulticlassNMS for the same candidates.

    Raises UserError if a detection is missing or different.
    """
    for mine, other in zip(found, expected):
        rows = [
            _sorted_rows(detections.boxes_yxyx, detections.scores, detections.labels) for detections in (mine, other)
        ]
        if rows[0].shape != rows[1].shape or not np.allclose(rows[0], rows[1], atol=1e-6):
            raise UserError(
                f"{place}: NMS in the model gives {len(mine.scores)} detections, expected {len(other.scores)}. "
                "Nothing was written. Export the model without --nms, and report the recipe."
            )


def compare_candidates(model: Outputs, reference: Outputs, *, place: str) -> dict[str, float]:
    """Compare candidates of two runs of the same graph, whose order may differ for nearly equal scores.

    Each candidate is compared with the nearest candidate of the same label whose score differs by at most TOLERANCE.
    A candidate whose score is within TOLERANCE of the lowest score may be missing in the other run.
    Returns {"boxes": largest difference, "scores": largest difference}.
    Raises UserError if a candidate has no counterpart within TOLERANCE.
    """
    assert model.labels is not None and reference.labels is not None
    largest = {"boxes": 0.0, "scores": float(np.abs(model.scores - reference.scores).max())}
    for image in range(len(model.scores)):
        scores, others = model.scores[image][:, None], reference.scores[image][None]
        is_same = (model.labels[image][:, None] == reference.labels[image]) & (np.abs(scores - others) <= TOLERANCE)
        distances = np.abs(model.boxes_yxyx[image][:, None] - reference.boxes_yxyx[image][None]).max(axis=2)
        nearest = np.where(is_same, distances, np.inf).min(axis=1)
        is_certain = model.scores[image] > reference.scores[image].min() + TOLERANCE
        largest["boxes"] = max(largest["boxes"], float(nearest[is_certain].max(initial=0.0)))
    _refuse_large(largest, place=place)
    return largest


def _refuse_large(differences: dict[str, float], *, place: str) -> None:
    """Raise UserError if a difference is above TOLERANCE, or not a number. place: name of the model"""
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise UserError(
                f"{place}: the largest difference of {name} from MindSpore is {difference:.2g}, above {TOLERANCE:g}. "
                "Nothing was written. Report the recipe and the versions of MindSpore and onnxruntime."
            )


def select_with_host_nms(outputs: Outputs, nms: MulticlassNMS) -> list[Detections]:
    """Apply NMS on the host to candidates. The boxes of the detections are fractions of the image size."""
    assert outputs.labels is not None
    sizes = np.ones((len(outputs.scores), 2))
    return nms(outputs.boxes_yxyx, outputs.scores, labels=outputs.labels, sizes=sizes)


def _sorted_rows(boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return an (N, 6) table of scores, labels and boxes, sorted by all columns."""
    table = np.column_stack([scores, labels, boxes_yxyx]).astype(np.float64)
    return table[np.lexsort(table.T[::-1])]
