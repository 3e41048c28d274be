"""Feature maps from the expansions of inverted residual blocks, as in torchvision's SSDLite and uvipen/SSD-pytorch."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
from mindcv.models.features import FeatureExtractWrapper
from mindspore import Tensor

from ..errors import UserError

NUM_EXPANSION_LAYERS = 3  # 1x1 convolution, BatchNorm and activation at the start of a block


class ExpansionTaps(FeatureExtractWrapper):
    """Feature extractor that takes all maps except the last from expansions of inverted residual blocks.

    The expansion is the first 1x1 convolution of a block, with its BatchNorm and activation. The map of a stage comes
    from the expansion in the strided block after the stage. It has the size of the stage's output, more channels, and
    pretrained weights. The last map is the output of the last stage, because later blocks are removed.

    channels: number of channels of each map
    """

    def __init__(self, model: nn.Cell, out_indices: Sequence[int]):
        """Select the maps of a MindCV model.

        model: MindCV model with `feature_info`
        out_indices: increasing indices of the stages
        Raises UserError if a stage before the last one is not followed by a strided inverted residual block.
        """
        *tapped, last = out_indices
        stages, cells = model.feature_info, dict(model.cells_and_names())
        layers = {}  # {index of a stage: layers of the strided block after the stage}
        for index, (stage, following) in enumerate(zip(stages, stages[1:])):
            found = _find_layers(cells.get(following["name"]))
            if found is not None and following["reduction"] > stage["reduction"]:
                layers[index] = found
        _check_indices(out_indices, possible=list(layers))
        super().__init__(model, out_indices=[last])
        # A strided block has no shortcut, so it equals its layers one after the other. Lists of the layers themselves
        # would become stale, because mixed precision replaces BatchNorm layers in `cell_list`.
        self.layers_of_blocks = [layers[index] for index in tapped]
        self.later_blocks = [_later_blocks(cells[stages[index + 1]["name"]]) for index in tapped]
        self.tapped_layer = NUM_EXPANSION_LAYERS - 1
        names = list(self.net.name_cells())
        self.positions = [names.index(stages[index + 1]["name"].replace(".", "_")) for index in tapped]
        self.channels = [found[0].out_channels for found in self.layers_of_blocks] + [stages[last]["chs"]]

    def construct(self, x: Tensor) -> list[Tensor]:
        """Extract the maps of a batch.

        x: (B, 3, H, W)
        Returns a list of maps, (B, channels[i], Hi, Wi) each.
        """
        maps = []
        for position, cell in enumerate(self.net.cell_list):
            if position in self.positions:
                tap = self.positions.index(position)
                for index, layer in enumerate(self.layers_of_blocks[tap].cell_list):
                    x = layer(x)
                    if index == self.tapped_layer:
                        maps.append(x)
                for block in self.later_blocks[tap]:
                    x = block(x)
            else:
                x = cell(x)
        maps.append(x)
        return maps


def _check_indices(out_indices: Sequence[int], possible: Sequence[int]) -> None:
    """Raise UserError if a stage has no expansion to take its map from, or if the key has no effect.

    out_indices: increasing indices of the stages
    possible: indices of the stages of the model that are followed by a strided inverted residual block
    """
    if not possible:
        raise UserError(
            "backbone_taps: expansion needs a MobileNetV2, MobileNetV3 or EfficientNet as backbone. Set backbone_taps "
            "to output, or choose a backbone such as mobilenet_v2_100."
        )
    *tapped, last = out_indices
    if not tapped:
        raise UserError(
            f"backbone_taps: expansion has no effect on the last of backbone_out_indices, {last}, whose output is "
            "used. Add a smaller index to backbone_out_indices, or set backbone_taps to output."
        )
    for index in tapped:
        if index not in possible:
            raise UserError(
                f"backbone_taps: no strided inverted residual block follows index {index} of backbone_out_indices. "
                f"Choose all indices except the last from {list(possible)}, or set backbone_taps to output."
            )


def _find_layers(stage: nn.Cell | None) -> nn.SequentialCell | None:
    """Return the layers of the first block of a stage, if that is an inverted residual block with an expansion.

    stage: block (MobileNet), or sequence of blocks (EfficientNet)
    Returns None if the stage has no such block.
    """
    block = stage[0] if isinstance(stage, nn.SequentialCell) else stage
    layers = getattr(block, "layers", None) or getattr(block, "block", None)  # names in MobileNet and EfficientNet
    if not isinstance(layers, nn.SequentialCell) or len(layers) <= NUM_EXPANSION_LAYERS:
        return None
    first, depthwise = layers[0], layers[NUM_EXPANSION_LAYERS]
    is_inverted = (
        isinstance(first, nn.Conv2d)
        and first.kernel_size == (1, 1)
        and isinstance(depthwise, nn.Conv2d)
        and depthwise.group == depthwise.in_channels == first.out_channels
    )
    return layers if is_inverted else None


def _later_blocks(stage: nn.Cell) -> list[nn.Cell]:
    """Return the blocks of a stage after the first one. stage: block, or sequence of blocks"""
    return list(stage)[1:] if isinstance(stage, nn.SequentialCell) else []
