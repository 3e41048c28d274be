"""Translate recipe keys of MindCV's `examples/det/ssd` to the keys of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..boxes.anchors import Anchors

# MindCV's keys that have no effect in this project, with the only accepted value of each key (None: any value).
RETIRED = {
    "all_reduce_fusion_config": None,  # tuned for one backbone; comm_fusion_mb works for all backbones
    "backbone_ckpt_auto_mapping": None,  # backbone weights are always matched by name
    "backbone_features_only": True,
    "distribute": None,  # read from the environment variables of the launcher
    "enable_modelarts": False,
}
# MindCV's lists of numbers, which are translated before the recipe is validated
_LISTS = ("extras_in_channels", "extras_out_channels", "extras_ratio", "extras_strides")
# Keys whose values are derived from other keys. A recipe may contain these keys if the values are correct.
DERIVED = ("num_ssd_boxes", "feature_size", "num_default")


def translate_mindcv_keys(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Translate the keys of a MindCV recipe to keys of Config, and separate the keys whose values follow from others.

    The function is called once for the recipe and once for the overrides.

    values: {key: value} of the recipe or of the overrides
    Returns {key of Config: value}, and {key: value} of the keys in DERIVED, which are only checked.
    Raises UserError if a value is not supported, or if the lists `extras_*` contradict each other.
    """
    values = dict(values)
    _require_lists(values)
    for key, required in RETIRED.items():
        value = values.pop(key, required)
        if required is not None and value != required:
            raise UserError(f"{key}: {value!r} is not supported, only {required!r} is supported. Remove {key}.")
    derived = {key: values.pop(key) for key in DERIVED if key in values}
    if values.pop("use_fpn", False):
        values.update(neck="fpn", head="shared")
    if values.pop("use_anchor_generator", False):
        values["anchors"] = "grid"
        for unused in ("aspect_ratios", "min_scale", "max_scale"):  # MindCV's grid anchors ignore these keys
            values.pop(unused, None)
    if "max_boxes" in values:
        values.setdefault("max_detections", values.pop("max_boxes"))
    _translate_extras(values)
    return values, derived


def _require_lists(values: dict[str, Any]) -> None:
    """Raise UserError if a key of _LISTS has a value that is not a list of numbers."""
    for key in _LISTS:
        value = values.get(key)
        is_list = isinstance(value, list | tuple) and all(type(number) in (int, float) for number in value)
        if value is not None and not (is_list and value):
            raise UserError(f"{key}: {value!r:.80} is not a list of numbers. Correct {key}.")


def _translate_extras(values: dict[str, Any]) -> None:
    """Replace MindCV's lists `extras_*` with `extra_layers` or `fpn_channels`.

    The lists have one entry for each level. The entries of the backbone levels are only checked, because the network
    determines their values.

    values: recipe values, which are changed in place
    Raises UserError if a list is missing, has the wrong length, or contradicts another list.
    """
    in_channels = values.pop("extras_in_channels", None)
    out_channels = values.pop("extras_out_channels", None)
    ratios, strides = values.pop("extras_ratio", None), values.pop("extras_strides", None)
    if out_channels is None:
        for key, given in (("extras_ratio", ratios), ("extras_strides", strides)):
            if given is not None:
                raise UserError(
                    f"{key}: {given} requires the key extras_out_channels. Add that key, or use extra_layers instead."
                )
        if in_channels is not None:  # compared when the network is built
            values["extras_in_channels"] = in_channels
        return
    if values.get("neck") == "fpn":
        steps = values.get("steps")  # validated later
        if len(set(out_channels)) != 1 or (isinstance(steps, list | tuple) and len(out_channels) != len(steps)):
            raise UserError(
                f"extras_out_channels: with use_fpn, {out_channels} must list the same number for each level in "
                "`steps`. Correct the list."
            )
        values["fpn_channels"] = out_channels[0]
        return
    lists = {"extras_ratio": ratios, "extras_strides": strides, "extras_in_channels": in_channels or out_channels}
    for key, given in lists.items():
        if given is None or len(given) != len(out_channels):
            raise UserError(
                f"{key}: {given} must be a list of {len(out_channels)} numbers, as many as in extras_out_channels. "
                f"Correct {key}."
            )
    # Each block reads the level before it. The first entry does not describe a block, so it is not compared.
    if in_channels is not None and list(in_channels[1:]) != list(out_channels[:-1]):
        raise UserError(
            f"extras_in_channels: got {in_channels}, expected {[in_channels[0], *out_channels[:-1]]}. "
            "Remove extras_in_channels, because the values are derived from extras_out_channels."
        )
    indices = values.get("backbone_out_indices")  # validated later
    first = len(indices) if isinstance(indices, list | tuple) else 0
    values["backbone_channels"] = tuple(out_channels[:first])
    values["extra_layers"] = [
        {"out_channels": channels, "expand_ratio": ratio, "stride": stride}
        for channels, ratio, stride in list(zip(out_channels, ratios, strides, strict=True))[first:]
    ]


def check_derived(derived: dict[str, Any], anchors: Anchors) -> None:
    """Raise UserError if the value of a derived key differs from the computed value.

    derived: {key of DERIVED: value in the recipe}
    anchors: anchors of the recipe
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
                f"{key}: got {value}, expected {expected[key]}. Remove {key}, because the value is derived from other "
                "keys."
            )
