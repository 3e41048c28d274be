"""Feature maps from the expansions of inverted residual blocks, as in torchvision's SSDLite and uvipen/SSD-pytorch."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
from mindcv.models.features import FeatureExtractWrapper
from mindspore import Tensor

from ..errors import UserError

NUM_EXPANSION_LAYERS = 3  # 1x1 convolution, BatchNorm and activation at the start of a block


class ExpansionTaps(FeatureExtractWrapper):
    """Feature extractor that takes a map from the expansion in the strided block after a stage.

    The expansion is the first 1x1 convolution of an inverted residual block, with its BatchNorm and activation. Its map
    has the size of the stage's output, more channels, and pretrained weights. A stage that no such block follows, for
    example the last stage, gives its own output.

    channels: number of channels of each map
    """

    def __init__(self, model: nn.Cell, out_indices: Sequence[int]):
        """Select the maps of a MindCV model.

        model: MindCV model with `feature_info`
        out_indices: increasing indices of the stages
        Raises UserError if no expansion follows one of the stages.
        """
        super().__init__(model, out_indices=list(out_indices))
        stages, cells = model.feature_info, dict(model.cells_and_names())
        self.channels = [stages[index]["chs"] for index in out_indices]
        outputs = {stages[index]["name"].replace(".", "_"): position for position, index in enumerate(out_indices)}
        tapped = {}
        for position, index in enumerate(out_indices[:-1]):  # the blocks after the last stage are removed
            block = cells.get(stages[index + 1]["name"])
            is_strided = stages[index + 1]["reduction"] > stages[index]["reduction"]
            if is_strided and _has_expansion(block):
                self.channels[position] = block.layers[0].out_channels
                del outputs[stages[index]["name"].replace(".", "_")]
                tapped[stages[index + 1]["name"].replace(".", "_")] = position
        if not tapped:
            raise UserError(
                "backbone_taps: no stage in backbone_out_indices is followed by a strided inverted residual block. Set "
                "backbone_taps to output, or choose a MobileNetV2 or MobileNetV3 backbone and one more index."
            )
        # A strided block has no shortcut, so it equals its layers one after the other
        self.layers: list[nn.Cell] = []
        self.ends: list[int] = []
        for name, cell in self.net.name_cells().items():
            if name in tapped:
                self.ends.append(len(self.layers) + NUM_EXPANSION_LAYERS - 1)
                self.layers += list(cell.layers)
            else:
                self.layers.append(cell)
            if name in outputs:
                self.ends.append(len(self.layers) - 1)

    def construct(self, x: Tensor) -> list[Tensor]:
        """Extract the maps of a batch. x: (B, 3, H, W). Returns a list of maps, (B, channels[i], Hi, Wi) each."""
        maps = []
        for position, layer in enumerate(self.layers):
            x = layer(x)
            if position in self.ends:
                maps.append(x)
        return maps


def _has_expansion(block: nn.Cell | None) -> bool:
    """Return True if a block is an inverted residual block that starts with a 1x1 convolution and a depthwise one."""
    layers = list(getattr(block, "layers", ()))[: NUM_EXPANSION_LAYERS + 1]
    if len(layers) <= NUM_EXPANSION_LAYERS:
        return False
    first, depthwise = layers[0], layers[NUM_EXPANSION_LAYERS]
    return (
        isinstance(first, nn.Conv2d)
        and first.kernel_size == (1, 1)
        and isinstance(depthwise, nn.Conv2d)
        and depthwise.group == depthwise.in_channels == first.out_channels
    )
