"""What of a detector no shape tells, kept in its checkpoints: the same classes in another order, other anchors of the
same number, or other strides, would load and find nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..errors import UserError

METADATA_KEY = "meaning"  # of JSON in a checkpoint, {recipe key: value}
OF_CLASSES = ("classes", "loss")  # which decides how scores come from logits
OF_NETWORK = ("backbone_padding", "backbone_max_stride", "extra_layers")
OF_ANCHORS = ("prior_scaling", "anchors", "box_sizes", "min_scale", "max_scale", "aspect_ratios", "clip_default_boxes")
OF_GRID = ("prior_scaling", "anchors")  # which follows no other key


def model_metadata(cfg) -> dict:
    """{key: value}, as JSON has them, of the recipe keys that outputs depend on and shapes do not. cfg: Config."""
    of_anchors = OF_GRID if cfg.anchors == "grid" else OF_ANCHORS
    unused = ("min_scale", "max_scale") if cfg.box_sizes else ("box_sizes",)
    return cfg.model_dump(mode="json", include={*OF_CLASSES, *OF_NETWORK, *of_anchors} - set(unused))


def read_metadata(content: Mapping) -> dict | None:
    """That of a checkpoint's {name: value}; None if it says nothing, as those of MindCV's example."""
    found = content.get(METADATA_KEY)
    return None if found is None else json.loads(found)


def differences(here: dict, there: dict | None) -> list[str]:
    """Keys whose values differ, where both are known."""
    both = {**here, **(there or {})}
    unknown = {"classes"} if None in (here.get("classes"), both.get("classes")) else set()
    return sorted(key for key in both.keys() - unknown if there and here.get(key) != there.get(key))


def refuse_mismatch(here: dict, there: dict | None, path) -> None:
    """Refuse a checkpoint whose predictions mean something else than the recipe's. here, there: meanings; path: of the
    checkpoint. Raises UserError."""
    for key in differences(here, there):
        got, expected = here.get(key), there.get(key)
        advice = "use the recipe it was trained with"
        if key == "classes":
            number = next((i for i, names in enumerate(zip(got, expected)) if names[0] != names[1]), None)
            if number is None:
                got, expected = (f"{len(names)} names with background" for names in (got, expected))
            else:
                got, expected = (f"{names[number]!r} as class {number}" for names in (got, expected))
            advice = "set --data_dir to their data; to train on others, start from it with --pretrained_detector"
        got, expected = ("nothing" if value is None else value for value in (got, expected))
        raise UserError(f"{path}: {key}: got {got}, expected {expected}, with which it was trained; {advice}")
