"""Detectors of other projects whose weights can be converted, and the recipes that compute the same function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ssd.errors import UserError

from .detector_names import ssd300_format, ssdlite_format
from .parameter_names import StateDictFormat

if TYPE_CHECKING:
    from ssd.config.schema import Config


@dataclasses.dataclass(frozen=True)
class SourceDetector:
    """A detector of another project.

    name: name of the detector, for messages
    recipe: path of the recipe with the same network
    backbone_prefix: start of the MindCV names of its backbones
    settings: {recipe key: value} that the weights require, because parameter shapes cannot reveal a mismatch
    extra_layers: (stride, pad) of each block after the backbone
    create_format: creates the format of its state dicts from the names of the MindSpore parameters, the number of
        classes and the number of anchors per location of each level
    """

    name: str
    recipe: str
    backbone_prefix: str
    settings: dict[str, Any]
    extra_layers: tuple[tuple[int, bool], ...]
    create_format: Callable[..., StateDictFormat]


COMMON_SETTINGS = {
    "loss": "multibox",
    "anchors": "default",
    "image_size": (300, 300),
    "clip_default_boxes": True,
    "prior_scaling": (0.1, 0.2),
}
SSD300 = SourceDetector(
    name="SSD300",
    recipe="examples/det/ssd/ssd_resnet50.yaml",
    backbone_prefix="resnet",
    settings={
        "neck": "convs",
        "head": "plain",
        "backbone_taps": "output",
        "backbone_max_stride": 8,
        "backbone_padding": "torch",
        "steps": (8, 16, 32, 64, 100, 300),
        "box_sizes": (21, 45, 99, 153, 207, 261, 315),
        "aspect_ratios": ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        **COMMON_SETTINGS,
    },
    extra_layers=((2, True), (2, True), (2, True), (1, False), (1, False)),
    create_format=ssd300_format,
)
SSDLITE = SourceDetector(
    name="SSDLite",
    recipe="examples/det/ssd/ssdlite_mobilenetv2.yaml",
    backbone_prefix="mobilenet_v2",
    settings={
        "neck": "residuals",
        "head": "separate_bias",
        "backbone_taps": "expansion",
        "backbone_out_indices": (13, 18),
        "backbone_max_stride": None,
        "steps": (16, 32, 64, 100, 150, 300),
        "box_sizes": (60, 105, 150, 195, 240, 285, 330),
        "aspect_ratios": ((2, 3),) * 6,
        **COMMON_SETTINGS,
    },
    extra_layers=((2, True),) * 4,
    create_format=ssdlite_format,
)


def find_detector(names: Iterable[str]) -> SourceDetector | None:
    """Return the detector to which the PyTorch parameter names belong, None for those of a classification network."""
    names = list(names)
    if any(name.startswith(("additional_blocks.0.conv.", "loc.0.0.", "conf.0.0.")) for name in names):
        return SSDLITE
    if any(name.startswith(("feature_extractor.", "additional_blocks.")) for name in names):
        return SSD300
    return None


def check_recipe(cfg: Config, detector: SourceDetector) -> None:
    """Raise UserError if the recipe differs from the detector in a setting that parameter shapes do not reveal."""
    extra_layers = tuple((layer.stride, layer.pad) for layer in cfg.extra_layers)
    comparisons = [(key, getattr(cfg, key), expected) for key, expected in detector.settings.items()]
    comparisons.append(("(stride, pad) of extra_layers", extra_layers, detector.extra_layers))
    for key, value, expected in comparisons:
        if value != expected:
            raise UserError(
                f"{key}: got {value!r}, expected {expected!r} for {detector.name}. Use --config {detector.recipe}."
            )
    if not cfg.backbone.startswith(detector.backbone_prefix):
        raise UserError(
            f"backbone: {detector.name} needs a {detector.backbone_prefix}, not {cfg.backbone!r}. "
            f"Use --config {detector.recipe}."
        )
