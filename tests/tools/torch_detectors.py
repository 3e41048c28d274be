"""PyTorch modules with the layers and parameter names of the detectors of NVIDIA and uvipen."""

import torch
from torch import nn
from torch_networks import MobileNetV2, ResNet50, inverted_residual


class SSD300(nn.Module):
    """SSD300 on ResNet-50 with NVIDIA's names and order of outputs, which uvipen shares."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.feature_extractor = nn.Module()
        self.feature_extractor.feature_extractor = nn.Sequential(*list(ResNet50(layer3_stride=1).children())[:7])
        channels, hidden_channels = [1024, 512, 512, 256, 256, 256], [256, 256, 128, 128, 128]
        self.additional_blocks = nn.ModuleList()
        for index, hidden in enumerate(hidden_channels):
            stride, padding = (2, 1) if index < 3 else (1, 0)
            out_channels = channels[index + 1]
            layers = [
                nn.Conv2d(channels[index], hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(),
                nn.Conv2d(hidden, out_channels, 3, stride=stride, padding=padding, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            self.additional_blocks.append(nn.Sequential(*layers))
        num_anchors = (4, 6, 6, 6, 4, 4)
        self.loc, self.conf = (
            nn.ModuleList(
                nn.Conv2d(level_channels, count * num_values, 3, padding=1)
                for level_channels, count in zip(channels, num_anchors)
            )
            for num_values in (4, num_classes)
        )

    def forward(self, x):
        """Return (B, 4, 8732) offsets of cx, cy, w, h and (B, K, 8732) logits, in the order of `nvidia_anchors`."""
        features = [self.feature_extractor.feature_extractor(x)]
        for block in self.additional_blocks:
            features.append(block(features[-1]))
        offsets = [head(feature).reshape(len(x), 4, -1) for head, feature in zip(self.loc, features)]
        logits = [head(feature).reshape(len(x), self.num_classes, -1) for head, feature in zip(self.conf, features)]
        return torch.cat(offsets, 2), torch.cat(logits, 2)


class SSDLite(nn.Module):
    """SSDLite on MobileNetV2 with uvipen's names, order of outputs, and unused predictors of a seventh level."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.feature_extractor = nn.Module()
        self.feature_extractor.feature_extractor = MobileNetV2().features
        channels, expansions = [576, 1280, 512, 256, 256, 64], [0.2, 0.25, 0.5, 0.25]
        self.additional_blocks = nn.ModuleList(
            inverted_residual(in_channels, out_channels, stride=2, expansion=expansion)
            for in_channels, out_channels, expansion in zip(channels[1:], channels[2:], expansions)
        )
        self.loc, self.conf = (
            nn.ModuleList([*(self.separable(width, 6 * values) for width in channels), nn.Conv2d(64, 6 * values, 1)])
            for values in (4, num_classes)
        )

    @staticmethod
    def separable(in_channels, out_channels):
        depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
        return nn.Sequential(
            depthwise, nn.BatchNorm2d(in_channels), nn.ReLU6(), nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x):
        """Return (B, 4, 3000) offsets of cx, cy, w, h and (B, K, 3000) logits, in the order of `nvidia_anchors`."""
        features = self.feature_extractor.feature_extractor
        before_block_14 = features[:14](x)
        levels = [features[14].conv[0](before_block_14), features[14:](before_block_14)]
        for block in self.additional_blocks:
            levels.append(block(levels[-1]))
        offsets = [head(level).reshape(len(x), 4, -1) for head, level in zip(self.loc, levels)]
        logits = [head(level).reshape(len(x), self.num_classes, -1) for head, level in zip(self.conf, levels)]
        return torch.cat(offsets, 2), torch.cat(logits, 2)
