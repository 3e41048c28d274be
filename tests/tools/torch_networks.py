"""PyTorch modules with the layers and names of torchvision's, timm's and NVIDIA's networks, for what they compute."""

import torch
from torch import nn

# Expanded channels, output channels, kernel, squeeze-and-excitation, hard swish, stride (arXiv:1905.02244, table 1).
V3_LARGE = [
    (16, 16, 3, False, False, 1),
    (64, 24, 3, False, False, 2),
    (72, 24, 3, False, False, 1),
    (72, 40, 5, True, False, 2),
    (120, 40, 5, True, False, 1),
    (120, 40, 5, True, False, 1),
    (240, 80, 3, False, True, 2),
    (200, 80, 3, False, True, 1),
    (184, 80, 3, False, True, 1),
    (184, 80, 3, False, True, 1),
    (480, 112, 3, True, True, 1),
    (672, 112, 3, True, True, 1),
    (672, 160, 5, True, True, 2),
    (960, 160, 5, True, True, 1),
    (960, 160, 5, True, True, 1),
]
SQUEEZED = {72: 24, 120: 32, 480: 120, 672: 168, 960: 240}  # a quarter, rounded to eights
# Expansion, output channels, blocks, stride of the first (arXiv:1801.04381, table 2).
V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def seed(network, number=0, side=128):
    """Weights, and BatchNorm statistics of random images, so that activations stay about one; ready to evaluate.

    Variances are well below one, so that epsilon shows. Residual branches are quiet, as in trained networks: where they
    are loud, rounding in float32 alone, of either framework, reaches 3e-4. side: of the images, in pixels
    """
    torch.manual_seed(number)
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= 0.3
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            quiet = getattr(module, "ends_branch", name.endswith("bn3"))
            nn.init.uniform_(module.weight, *((0.1, 0.3) if quiet else (0.5, 1)))
            nn.init.normal_(module.bias, 0, 0.1)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, side, side))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var *= torch.empty_like(module.running_var).uniform_(0.8, 1.2)
                module.running_var.clamp_(min=0.01)
    return network.eval()


def conv(inside, out, kernel, stride=1, groups=1):
    return nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inside, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or inside != 4 * width:
            self.downsample = nn.Sequential(conv(inside, 4 * width, 1, stride), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """torchvision's and timm's names. layer3_stride: 1 in SSD300"""

    def __init__(self, layer3_stride=2):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1, self.layer2 = self.stage(64, 64, 3, 1), self.stage(256, 128, 4, 2)
        self.layer3, self.layer4 = self.stage(512, 256, 6, layer3_stride), self.stage(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 1000)

    def stage(self, inside, width, count, stride):
        blocks = [Bottleneck(inside, width, stride)]
        return nn.Sequential(*blocks, *(Bottleneck(4 * width, width, 1) for _ in range(count - 1)))

    def forward(self, x):
        """Maps after layer2, layer3 and layer4."""
        second = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        third = self.layer3(second)
        return second, third, self.layer4(third)


class SSD300(nn.Module):
    """NVIDIA's and uvipen's names and order of outputs."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.feature_extractor = nn.Module()
        self.feature_extractor.feature_extractor = nn.Sequential(*list(ResNet50(layer3_stride=1).children())[:7])
        channels, hidden = [1024, 512, 512, 256, 256, 256], [256, 256, 128, 128, 128]
        self.additional_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[index], hidden[index], 1, bias=False),
                nn.BatchNorm2d(hidden[index]),
                nn.ReLU(),
                nn.Conv2d(hidden[index], channels[index + 1], 3, 2 if index < 3 else 1, int(index < 3), bias=False),
                nn.BatchNorm2d(channels[index + 1]),
                nn.ReLU(),
            )
            for index in range(5)
        )
        counts = (4, 6, 6, 6, 4, 4)
        self.loc, self.conf = (
            nn.ModuleList(nn.Conv2d(wide, count * values, 3, padding=1) for wide, count in zip(channels, counts))
            for values in (4, num_classes)
        )

    def forward(self, x):
        """(B, 4, 8732) offsets of cx, cy, w, h and (B, K, 8732) logits, in the order of `nvidia_boxes`"""
        levels = [self.feature_extractor.feature_extractor(x)]
        for block in self.additional_blocks:
            levels.append(block(levels[-1]))
        offsets = [head(level).reshape(len(x), 4, -1) for head, level in zip(self.loc, levels)]
        logits = [head(level).reshape(len(x), self.num_classes, -1) for head, level in zip(self.conf, levels)]
        return torch.cat(offsets, 2), torch.cat(logits, 2)


def conv_norm(inside, out, kernel, stride=1, groups=1, act=nn.ReLU6, eps=1e-5):
    layers = [conv(inside, out, kernel, stride, groups), nn.BatchNorm2d(out, eps=eps)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Block(nn.Module):
    """An inverted residual, its layers in a Sequential called `name`."""

    def __init__(self, name, layers, shortcut):
        super().__init__()
        self.name, self.shortcut = name, shortcut
        setattr(self, name, nn.Sequential(*layers))
        [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)][-1].ends_branch = True

    def forward(self, x):
        y = getattr(self, self.name)(x)
        return x + y if self.shortcut else y


class SqueezeExcitation(nn.Module):
    """torchvision's, or timm's by other names."""

    def __init__(self, channels, names=("fc1", "fc2")):
        super().__init__()
        self.names = names
        setattr(self, names[0], nn.Conv2d(channels, SQUEEZED[channels], 1))
        setattr(self, names[1], nn.Conv2d(SQUEEZED[channels], channels, 1))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return x * nn.functional.hardsigmoid(second(torch.relu(first(x.mean((2, 3), keepdim=True)))))


class MobileNetV2(nn.Module):
    """torchvision's names."""

    def __init__(self):
        super().__init__()
        layers, inside = [conv_norm(3, 32, 3, 2)], 32
        for expansion, out, count, first_stride in V2:
            for index in range(count):
                stride, wide = first_stride if index == 0 else 1, inside * expansion
                parts = [] if expansion == 1 else [conv_norm(inside, wide, 1)]
                parts += [conv_norm(wide, wide, 3, stride, wide), conv(wide, out, 1), nn.BatchNorm2d(out)]
                layers.append(Block("conv", parts, stride == 1 and inside == out))
                inside = out
        self.features = nn.Sequential(*layers, conv_norm(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))

    def forward(self, x):
        """The maps of stride 16 and 32 that MindCV has at 13 and 18."""
        middle = self.features[:14](x)
        return middle, self.features[14:](middle)


class MobileNetV3Large(nn.Module):
    """torchvision's names and epsilon."""

    def __init__(self):
        super().__init__()
        eps = 1e-3
        layers, inside = [conv_norm(3, 16, 3, 2, act=nn.Hardswish, eps=eps)], 16
        for wide, out, kernel, squeeze, swish, stride in V3_LARGE:
            act = nn.Hardswish if swish else nn.ReLU
            parts = [] if wide == inside else [conv_norm(inside, wide, 1, act=act, eps=eps)]
            parts += [conv_norm(wide, wide, kernel, stride, wide, act, eps)]
            parts += [SqueezeExcitation(wide)] if squeeze else []
            parts += [conv_norm(wide, out, 1, act=None, eps=eps)]
            layers.append(Block("block", parts, stride == 1 and inside == out))
            inside = out
        self.features = nn.Sequential(*layers, conv_norm(160, 960, 1, act=nn.Hardswish, eps=eps))
        self.classifier = nn.Sequential(nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(), nn.Linear(1280, 1000))

    def forward(self, x):
        """The maps of stride 16 and 32 that MindCV has at 12 and 16."""
        middle = self.features[:13](x)
        return middle, self.features[13:](middle)


class TimmBlock(nn.Module):
    """timm's depthwise separable block, or its inverted residual if it expands."""

    def __init__(self, inside, wide, out, kernel, stride, act, squeeze=False):
        super().__init__()
        self.expands, self.shortcut, self.act = wide != inside, stride == 1 and inside == out, act()
        if self.expands:
            self.conv_pw, self.bn1 = conv(inside, wide, 1), nn.BatchNorm2d(wide)
            self.conv_dw, self.bn2 = conv(wide, wide, kernel, stride, wide), nn.BatchNorm2d(wide)
            self.se = SqueezeExcitation(wide, ("conv_reduce", "conv_expand")) if squeeze else nn.Identity()
            self.conv_pwl, self.bn3 = conv(wide, out, 1), nn.BatchNorm2d(out)
        else:
            self.conv_dw, self.bn1 = conv(inside, inside, kernel, stride, inside), nn.BatchNorm2d(inside)
            self.conv_pw, self.bn2 = conv(inside, out, 1), nn.BatchNorm2d(out)

    def forward(self, x):
        if self.expands:
            y = self.act(self.bn2(self.conv_dw(self.act(self.bn1(self.conv_pw(x))))))
            y = self.bn3(self.conv_pwl(self.se(y)))
        else:
            y = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
        return x + y if self.shortcut else y


class TimmMobileNetV2(nn.Module):
    """timm's mobilenetv2_100."""

    def __init__(self):
        super().__init__()
        self.conv_stem, self.bn1, self.act = conv(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU6()
        stages, inside = [], 32
        for expansion, out, count, stride in V2:
            blocks = [TimmBlock(inside, inside * expansion, out, 3, stride, nn.ReLU6)]
            blocks += [TimmBlock(out, out * expansion, out, 3, 1, nn.ReLU6) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            inside = out
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2, self.classifier = conv(320, 1280, 1), nn.BatchNorm2d(1280), nn.Linear(1280, 1000)

    def forward(self, x):
        middle = self.blocks[:5](self.act(self.bn1(self.conv_stem(x))))
        return middle, self.act(self.bn2(self.conv_head(self.blocks[5:](middle))))


class TimmMobileNetV3Large(nn.Module):
    """timm's mobilenetv3_large_100."""

    def __init__(self):
        super().__init__()
        self.conv_stem, self.bn1, self.act = conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.Hardswish()
        blocks, inside = [], 16
        for wide, out, kernel, squeeze, swish, stride in V3_LARGE:
            blocks.append(TimmBlock(inside, wide, out, kernel, stride, nn.Hardswish if swish else nn.ReLU, squeeze))
            inside = out
        ends = [(0, 1), (1, 3), (3, 6), (6, 10), (10, 12), (12, 15)]  # stages of one output width
        last = nn.Module()
        last.conv, last.bn1 = conv(160, 960, 1), nn.BatchNorm2d(960)
        self.blocks = nn.Sequential(*(nn.Sequential(*blocks[a:b]) for a, b in ends), nn.Sequential(last))
        self.conv_head, self.classifier = nn.Conv2d(960, 1280, 1), nn.Linear(1280, 1000)

    def forward(self, x):
        middle = self.blocks[:5](self.act(self.bn1(self.conv_stem(x))))
        last = self.blocks[6][0]
        return middle, self.act(last.bn1(last.conv(self.blocks[5](middle))))
