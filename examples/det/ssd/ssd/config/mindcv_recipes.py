"""The keys of MindCV's `examples/det/ssd` recipes that have another form here, so that those files load unchanged."""

from __future__ import annotations

from typing import Any

from ..errors import UserError

# Keys that no longer decide anything, with the only value that still describes what happens (None: any value).
RETIRED = {
    "all_reduce_fusion_config": None,  # hard-wired to one backbone's parameter count; MindSpore's own fusion is used
    "backbone_ckpt_auto_mapping": None,  # backbone weights are always matched by name, and none may be left out
    "backbone_features_only": True,
    "distribute": None,  # a fact of the launcher's environment
    "enable_modelarts": False,
}
# Keys whose value follows from others. They may be repeated, if they are right.
DERIVED = ("num_ssd_boxes", "feature_size", "num_default")


def translate_published(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split recipe values into ours and the given derived ones. Done for a recipe and its overrides apart.

    values: {key: value} of a recipe -> ({key of Config: value}, {key of DERIVED: value}). Raises UserError.
    """
    values = dict(values)
    for key, required in RETIRED.items():
        got = values.pop(key, required)
        if required is not None and got != required:
            raise UserError(f"{key}: got {got!r}, expected {required!r}, the only value supported; remove the key")
    derived = {key: values.pop(key) for key in DERIVED if key in values}
    if values.pop("use_fpn", False):
        values.update(neck="fpn", head="shared")
    if values.pop("use_anchor_generator", False):
        values["anchors"] = "grid"
        for unused in ("aspect_ratios", "min_scale", "max_scale"):  # the example's grid ignores them
            values.pop(unused, None)
    if "max_boxes" in values:
        values.setdefault("max_detections", values.pop("max_boxes"))
    _translate_extras(values)
    return values, derived


def _translate_extras(values: dict[str, Any]) -> None:
    """`extras_*`, four lists with an entry a level, to `extra_layers` or `fpn_channels`. The levels that come straight
    from the backbone are derived, so what the lists say of them is only compared."""
    in_channels = values.pop("extras_in_channels", None)
    out_channels = values.pop("extras_out_channels", None)
    ratios, strides = values.pop("extras_ratio", None), values.pop("extras_strides", None)
    if out_channels is None:
        for key, given in (("extras_ratio", ratios), ("extras_strides", strides)):
            if given is not None:
                raise UserError(f"{key}: got {given} alone, expected extras_out_channels beside it; give extra_layers")
        if in_channels is not None:  # compared with the network's when that is built
            values["extras_in_channels"] = in_channels
        return
    if values.get("neck") == "fpn":
        if len(set(out_channels)) != 1 or len(out_channels) != len(values.get("steps", out_channels)):
            raise UserError(
                f"extras_out_channels: got {out_channels}, expected one number for each of `steps`, all equal"
            )
        values["fpn_channels"] = out_channels[0]
        return
    lists = {"extras_ratio": ratios, "extras_strides": strides, "extras_in_channels": in_channels or out_channels}
    for key, given in lists.items():
        if given is None or len(given) != len(out_channels):
            raise UserError(f"{key}: got {given}, expected {len(out_channels)} numbers, as many as extras_out_channels")
    # Each block reads the level before it; the first entry describes no layer and is not compared.
    if in_channels is not None and list(in_channels[1:]) != list(out_channels[:-1]):
        raise UserError(
            f"extras_in_channels: got {in_channels}, expected {[in_channels[0], *out_channels[:-1]]}, "
            "the channels of the level before; remove the key to have it derived"
        )
    first = len(values.get("backbone_out_indices", ()))
    values["backbone_channels"] = tuple(out_channels[:first])
    values["extra_layers"] = [
        {"out_channels": channels, "expand_ratio": ratio, "stride": stride}
        for channels, ratio, stride in list(zip(out_channels, ratios, strides))[first:]
    ]


def check_derived(derived: dict[str, Any], anchors) -> None:
    """Refuse a derived value that differs from the computed one. anchors: boxes.anchors object. Raises UserError."""
    square = all(rows == cols for rows, cols in anchors.feature_sizes)
    expected = {
        "num_ssd_boxes": len(anchors),
        "feature_size": [rows if square else [rows, cols] for rows, cols in anchors.feature_sizes],
        "num_default": list(anchors.num_per_location),
    }
    for key, got in derived.items():
        if got not in (None, expected[key]):
            raise UserError(
                f"{key}: got {got}, expected {expected[key]} from image_size and steps; "
                "remove the key to have it derived"
            )
