"""PyTorch modules with the layers and parameter names of timm's MobileNets."""

from torch import nn
from torch_networks import V2, V3_LARGE, SqueezeExcitation, conv


class TimmBlock(nn.Module):
    """Inverted residual block of timm, or its depthwise separable block if the channels are not expanded."""

    def __init__(self, in_channels, expanded, out_channels, kernel, stride, activation, has_squeeze=False):
        super().__init__()
        self.expands = expanded != in_channels
        self.shortcut = stride == 1 and in_channels == out_channels
        self.activation = activation()
        depthwise = conv(expanded, expanded, kernel, stride=stride, groups=expanded)
        if self.expands:
            self.conv_pw, self.bn1 = conv(in_channels, expanded, 1), nn.BatchNorm2d(expanded)
            self.conv_dw, self.bn2 = depthwise, nn.BatchNorm2d(expanded)
            self.se = SqueezeExcitation(expanded, ("conv_reduce", "conv_expand")) if has_squeeze else nn.Identity()
            self.conv_pwl, self.bn3 = conv(expanded, out_channels, 1), nn.BatchNorm2d(out_channels)
        else:
            self.conv_dw, self.bn1 = depthwise, nn.BatchNorm2d(in_channels)
            self.conv_pw, self.bn2 = conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)

    def forward(self, x):
        if self.expands:
            y = self.activation(self.bn2(self.conv_dw(self.activation(self.bn1(self.conv_pw(x))))))
            y = self.bn3(self.conv_pwl(self.se(y)))
        else:
            y = self.bn2(self.conv_pw(self.activation(self.bn1(self.conv_dw(x)))))
        return x + y if self.shortcut else y


class TimmMobileNetV2(nn.Module):
    """timm's mobilenetv2_100."""

    def __init__(self):
        super().__init__()
        self.conv_stem, self.bn1, self.activation = conv(3, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU6()
        self.blocks, in_channels = nn.Sequential(), 32
        for expansion, out_channels, num_blocks, first_stride in V2:
            stage = nn.Sequential()
            for index in range(num_blocks):
                block = TimmBlock(
                    in_channels,
                    expanded=in_channels * expansion,
                    out_channels=out_channels,
                    kernel=3,
                    stride=first_stride if index == 0 else 1,
                    activation=nn.ReLU6,
                )
                stage.append(block)
                in_channels = out_channels
            self.blocks.append(stage)
        self.conv_head, self.bn2, self.classifier = conv(320, 1280, 1), nn.BatchNorm2d(1280), nn.Linear(1280, 1000)

    def forward(self, x):
        middle = self.blocks[:5](self.activation(self.bn1(self.conv_stem(x))))
        return middle, self.activation(self.bn2(self.conv_head(self.blocks[5:](middle))))


class TimmMobileNetV3Large(nn.Module):
    """timm's mobilenetv3_large_100."""

    def __init__(self):
        super().__init__()
        self.conv_stem, self.bn1, self.activation = conv(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.Hardswish()
        blocks, in_channels = [], 16
        for expanded, out_channels, kernel, has_squeeze, has_hardswish, stride in V3_LARGE:
            block = TimmBlock(
                in_channels,
                expanded=expanded,
                out_channels=out_channels,
                kernel=kernel,
                stride=stride,
                activation=nn.Hardswish if has_hardswish else nn.ReLU,
                has_squeeze=has_squeeze,
            )
            blocks.append(block)
            in_channels = out_channels
        last = nn.Module()
        last.conv, last.bn1 = conv(160, 960, 1), nn.BatchNorm2d(960)
        # A stage ends where the number of output channels changes.
        ranges = [(0, 1), (1, 3), (3, 6), (6, 10), (10, 12), (12, 15)]
        stages = [nn.Sequential(*blocks[start:end]) for start, end in ranges]
        self.blocks = nn.Sequential(*stages, nn.Sequential(last))
        self.conv_head, self.classifier = nn.Conv2d(960, 1280, 1), nn.Linear(1280, 1000)

    def forward(self, x):
        middle = self.blocks[:5](self.activation(self.bn1(self.conv_stem(x))))
        last = self.blocks[6][0]
        return middle, self.activation(last.bn1(last.conv(self.blocks[5](middle))))
