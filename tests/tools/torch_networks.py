"""PyTorch modules with the layers and parameter names of the networks of torchvision, timm, NVIDIA and uvipen."""

import torch
from torch import nn

# (expanded channels, output channels, kernel, squeeze-and-excitation, hard swish, stride): arXiv:1905.02244, table 1.
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
# {expanded channels: squeezed channels}, a quarter rounded to multiples of 8
SQUEEZED = {72: 24, 120: 32, 480: 120, 672: 168, 960: 240}
# (expansion, output channels, number of blocks, stride of the first block): arXiv:1801.04381, table 2.
V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def initialize(network, seed=0, image_side=128):
    """Draw random weights, and take BatchNorm statistics from random images; returns the network in evaluation mode.

    Activations stay near one, and variances well below one, so that another epsilon changes the output.
    Residual branches have small weights, as in trained networks: with large ones, float32 rounding alone reaches 3e-4.
    image_side: in pixels
    """
    torch.manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= 0.3
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            ends_branch = getattr(module, "ends_branch", name.endswith("bn3"))
            low, high = (0.1, 0.3) if ends_branch else (0.5, 1)
            nn.init.uniform_(module.weight, low, high)
            nn.init.normal_(module.bias, 0, 0.1)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn((4, 3, image_side, image_side)))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var *= torch.empty_like(module.running_var).uniform_(0.8, 1.2)
                module.running_var.clamp_(min=0.01)
    return network.eval()


def conv(in_channels, out_channels, kernel, stride=1, groups=1):
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, in_channels, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride=stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or in_channels != 4 * width:
            downsample = conv(in_channels, 4 * width, 1, stride=stride)
            self.downsample = nn.Sequential(downsample, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """ResNet-50 with torchvision's names, which timm shares. layer3_stride: 1 in SSD300"""

    def __init__(self, layer3_stride=2):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(3, 64, 7, stride=2), nn.BatchNorm2d(64), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = self.create_stage(64, 64, num_blocks=3, stride=1)
        self.layer2 = self.create_stage(256, 128, num_blocks=4, stride=2)
        self.layer3 = self.create_stage(512, 256, num_blocks=6, stride=layer3_stride)
        self.layer4 = self.create_stage(1024, 512, num_blocks=3, stride=2)
        self.fc = nn.Linear(2048, 1000)

    def create_stage(self, in_channels, width, num_blocks, stride):
        first_block = Bottleneck(in_channels, width, stride)
        return nn.Sequential(first_block, *(Bottleneck(4 * width, width, 1) for _ in range(num_blocks - 1)))

    def forward(self, x):
        """Return the features after layer2, layer3 and layer4."""
        c3 = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)


def conv_norm(in_channels, out_channels, kernel, stride=1, groups=1, activation=nn.ReLU6, eps=1e-5):
    """Return convolution, BatchNorm and activation. activation: None for none"""
    convolution = conv(in_channels, out_channels, kernel, stride=stride, groups=groups)
    layers = [convolution, nn.BatchNorm2d(out_channels, eps=eps)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class Block(nn.Module):
    """Inverted residual block of torchvision, with its layers in a Sequential called `name`."""

    def __init__(self, name, layers, shortcut):
        super().__init__()
        self.name, self.shortcut = name, shortcut
        setattr(self, name, nn.Sequential(*layers))
        [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)][-1].ends_branch = True

    def forward(self, x):
        y = getattr(self, self.name)(x)
        return x + y if self.shortcut else y


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation. names: of its two convolutions, torchvision's by default"""

    def __init__(self, channels, names=("fc1", "fc2")):
        super().__init__()
        self.names = names
        setattr(self, names[0], nn.Conv2d(channels, SQUEEZED[channels], 1))
        setattr(self, names[1], nn.Conv2d(SQUEEZED[channels], channels, 1))

    def forward(self, x):
        reduce, expand = (getattr(self, name) for name in self.names)
        return x * nn.functional.hardsigmoid(expand(torch.relu(reduce(x.mean((2, 3), keepdim=True)))))


def inverted_residual(in_channels, out_channels, stride, expansion):
    """Return torchvision's inverted residual block of MobileNetV2."""
    expanded = round(in_channels * expansion)
    layers = [] if expansion == 1 else [conv_norm(in_channels, expanded, 1)]
    layers += [conv_norm(expanded, expanded, 3, stride=stride, groups=expanded)]
    layers += [conv(expanded, out_channels, 1), nn.BatchNorm2d(out_channels)]
    return Block("conv", layers, shortcut=stride == 1 and in_channels == out_channels)


class MobileNetV2(nn.Module):
    """MobileNetV2 with torchvision's names."""

    def __init__(self):
        super().__init__()
        layers, in_channels = [conv_norm(3, 32, 3, stride=2)], 32
        for expansion, out_channels, num_blocks, first_stride in V2:
            for index in range(num_blocks):
                stride = first_stride if index == 0 else 1
                layers.append(inverted_residual(in_channels, out_channels, stride=stride, expansion=expansion))
                in_channels = out_channels
        self.features = nn.Sequential(*layers, conv_norm(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 1000))

    def forward(self, x):
        """Return the features of stride 16 and 32, MindCV's indices 13 and 18."""
        middle = self.features[:14](x)
        return middle, self.features[14:](middle)


class MobileNetV3Large(nn.Module):
    """MobileNetV3-Large with torchvision's names and BatchNorm epsilon."""

    def __init__(self):
        super().__init__()
        eps = 1e-3
        layers, in_channels = [conv_norm(3, 16, 3, stride=2, activation=nn.Hardswish, eps=eps)], 16
        for expanded, out_channels, kernel, has_squeeze, has_hardswish, stride in V3_LARGE:
            options = {"activation": nn.Hardswish if has_hardswish else nn.ReLU, "eps": eps}
            block = [] if expanded == in_channels else [conv_norm(in_channels, expanded, 1, **options)]
            block += [conv_norm(expanded, expanded, kernel, stride=stride, groups=expanded, **options)]
            block += [SqueezeExcitation(expanded)] if has_squeeze else []
            block += [conv_norm(expanded, out_channels, 1, activation=None, eps=eps)]
            layers.append(Block("block", block, shortcut=stride == 1 and in_channels == out_channels))
            in_channels = out_channels
        self.features = nn.Sequential(*layers, conv_norm(160, 960, 1, activation=nn.Hardswish, eps=eps))
        layers = [nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(), nn.Linear(1280, 1000)]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x):
        """Return the features of stride 16 and 32, MindCV's indices 12 and 16."""
        middle = self.features[:13](x)
        return middle, self.features[13:](middle)
