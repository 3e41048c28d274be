"""MindCV classification networks as feature extractors."""

from __future__ import annotations

from typing import Sequence

import mindspore.nn as nn
from mindcv.models import create_model, is_model, list_models
from mindcv.models.features import FeatureExtractWrapper
from mindspore import Tensor

from ..errors import UserError


class Backbone(nn.Cell):
    """The feature maps of a MindCV model at `out_indices`, from fine to coarse, with what they are.

    `.channels` and `.strides` (input pixels between locations) have an entry for each map; `.model_names` are those of
    all parameters of the whole model, as they stand in its checkpoints.
    Raises UserError if MindCV has no such model or the model has no such maps.
    """

    def __init__(self, name: str, out_indices: Sequence[int]):
        super().__init__()
        if not is_model(name):
            family = name.split("_")[0]
            raise UserError(
                f"backbone: got {name!r}, expected a MindCV model such as "
                f"{', '.join(list_models(f'{family}*')[:5] or ['resnet50'])}"
            )
        model = create_model(name)
        self.model_names = frozenset(model.parameters_dict())
        levels = getattr(model, "feature_info", None)
        if levels is None:
            raise UserError(f"backbone: got {name!r}, expected a MindCV model that can extract features")
        if list(out_indices) != sorted(set(out_indices)) or not 0 <= out_indices[0] <= out_indices[-1] < len(levels):
            raise UserError(
                f"backbone_out_indices: got {list(out_indices)}, expected rising indices from 0 to {len(levels) - 1}"
            )
        self.channels = [levels[index]["chs"] for index in out_indices]
        self.strides = [levels[index]["reduction"] for index in out_indices]
        self.features = FeatureExtractWrapper(model, out_indices=list(out_indices))

    def construct(self, image: Tensor) -> list[Tensor]:
        """image: (B, 3, H, W) -> maps (B, channels[i], ⌈H/strides[i]⌉, ⌈W/strides[i]⌉)"""
        return self.features(image)
