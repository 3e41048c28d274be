"""Draw the detections of several images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssd.inference.drawing import draw_detections
from ssd.inference.predictor import Predictor

HEIGHT, GAP = 300, 6  # pixels


def draw_tiles(config: str, paths: Sequence[Path], **overrides: object) -> list[np.ndarray]:
    """Detect objects in images with the newest or best checkpoint of a recipe, and draw them.

    config: path of the recipe
    paths: image files
    overrides: recipe keys, for example data_dir and ckpt_save_dir
    Returns an (HEIGHT, W, 3) uint8 RGB image for each path. Only detections above the recipe's display_score are drawn.
    """
    predictor = Predictor(config, None, **overrides)
    tiles = []
    for path in paths:
        with Image.open(path) as file:
            image = file.convert("RGB")
        scale = HEIGHT / image.height
        # Lines and captions are drawn after scaling, so that they stay sharp.
        small = np.asarray(image.resize((round(image.width * scale), HEIGHT), Image.Resampling.LANCZOS))
        detections = predictor(np.asarray(image))
        shown = detections.scores >= predictor.cfg.display_score
        tiles.append(
            draw_detections(
                small,
                boxes_yxyx=detections.boxes_yxyx[shown] * scale,
                scores=detections.scores[shown],
                labels=detections.labels[shown],
                classes=predictor.classes,
            )
        )
    return tiles


def join_tiles(tiles: Sequence[np.ndarray]) -> Image.Image:
    """Place images of the same height side by side, with white gaps between them."""
    gap = np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for tile in tiles for part in (tile, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))
