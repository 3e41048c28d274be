"""Translate the keys of MindCV's `examples/det/ssd` recipes that have another form here, so that those files load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..boxes.anchors import Anchors

# Keys without effect here, with the only value that still describes what happens (None: any value).
RETIRED = {
    "all_reduce_fusion_config": None,  # written for one backbone's parameter count; MindSpore's own fusion is used
    "backbone_ckpt_auto_mapping": None,  # backbone weights are always matched by name, and none may be missing
    "backbone_features_only": True,
    "distribute": None,  # known from the launcher's environment
    "enable_modelarts": False,
}
# Keys whose value follows from other keys. A recipe may repeat them if they are right.
DERIVED = ("num_ssd_boxes", "feature_size", "num_default")


def translate_mindcv_keys(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Translate recipe values to keys of Config, and split off derived ones. Recipe and overrides are translated apart.

    values: {key: value} of a recipe
    Returns {key of Config: value} and {key of DERIVED: value}. Raises UserError.
    """
    values = dict(values)
    for key, required in RETIRED.items():
        value = values.pop(key, required)
        if required is not None and value != required:
            raise UserError(f"{key}: {value!r} is not supported, only {required!r}. Remove the key.")
    derived = {key: values.pop(key) for key in DERIVED if key in values}
    if values.pop("use_fpn", False):
        values.update(neck="fpn", head="shared")
    if values.pop("use_anchor_generator", False):
        values["anchors"] = "grid"
        for unused in ("aspect_ratios", "min_scale", "max_scale"):  # the example's grid anchors ignore them
            values.pop(unused, None)
    if "max_boxes" in values:
        values.setdefault("max_detections", values.pop("max_boxes"))
    _translate_extras(values)
    return values, derived


def _translate_extras(values: dict[str, Any]) -> None:
    """Replace the lists `extras_*`, which have an entry for each level, by `extra_layers` or `fpn_channels`.

    Levels that come straight from the backbone are derived; their entries are only compared. Raises UserError.
    """
    in_channels = values.pop("extras_in_channels", None)
    out_channels = values.pop("extras_out_channels", None)
    ratios, strides = values.pop("extras_ratio", None), values.pop("extras_strides", None)
    if out_channels is None:
        for key, given in (("extras_ratio", ratios), ("extras_strides", strides)):
            if given is not None:
                raise UserError(
                    f"{key}: {given} needs extras_out_channels beside it. Add that key, or use extra_layers."
                )
        if in_channels is not None:  # compared with the network's channels when it is built
            values["extras_in_channels"] = in_channels
        return
    if values.get("neck") == "fpn":
        if len(set(out_channels)) != 1 or len(out_channels) != len(values.get("steps", out_channels)):
            raise UserError(
                f"extras_out_channels: {out_channels} must be equal numbers, one for each of `steps`. Correct the list."
            )
        values["fpn_channels"] = out_channels[0]
        return
    lists = {"extras_ratio": ratios, "extras_strides": strides, "extras_in_channels": in_channels or out_channels}
    for key, given in lists.items():
        if given is None or len(given) != len(out_channels):
            raise UserError(
                f"{key}: {given} must have {len(out_channels)} numbers, like extras_out_channels. Correct the list."
            )
    # Each block reads the level before it; the first entry describes no layer and is not compared.
    if in_channels is not None and list(in_channels[1:]) != list(out_channels[:-1]):
        raise UserError(
            f"extras_in_channels: got {in_channels}, expected {[in_channels[0], *out_channels[:-1]]}, the output "
            "channels of the level before. Remove the key; it is derived."
        )
    first = len(values.get("backbone_out_indices", ()))
    values["backbone_channels"] = tuple(out_channels[:first])
    values["extra_layers"] = [
        {"out_channels": channels, "expand_ratio": ratio, "stride": stride}
        for channels, ratio, stride in list(zip(out_channels, ratios, strides, strict=True))[first:]
    ]


def check_derived(derived: dict[str, Any], anchors: Anchors) -> None:
    """Raise UserError if a repeated derived value differs from the computed one.

    derived: {key of DERIVED: value}; anchors: of the recipe
    """
    square = all(rows == cols for rows, cols in anchors.feature_sizes)
    expected = {
        "num_ssd_boxes": len(anchors),
        "feature_size": [rows if square else [rows, cols] for rows, cols in anchors.feature_sizes],
        "num_default": list(anchors.num_per_location),
    }
    for key, value in derived.items():
        if value not in (None, expected[key]):
            raise UserError(
                f"{key}: got {value}, expected {expected[key]} from image_size and steps. Remove the derived key."
            )
