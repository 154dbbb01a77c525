"""Residual networks: the 9 layers of cifar10-fast ("Davidnet", Figure 16) and Wide ResNet-50-2-bottleneck (Table 13).

Letters: B batch, H height and width, N width (channels of the first convolution, of which all others are multiples).
µP needs nothing of the modules but a tuned alpha_output: kernels are matrices for each of their positions (App. B.1),
BatchNorm's gains and biases are input weights, and the readouts start at zero (App. D.2).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from mutransfer.models.winograd import Conv3x3

DAVIDNET_WIDTH = 64  # of the original network; width multiplier 1 of Figure 16 and Table 12
READOUT_SCALE = 0.125  # what the original network multiplies its logits by, beside alpha_output


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def conv_norm(channels_in: int, channels: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU, and 2x2 max-pooling if asked for.

    The pooling stands before the ReLU: the same numbers and gradients, and the ReLU has a quarter of the work.
    """
    conv = Conv3x3(channels_in, channels)  # µP: HIDDEN, INPUT from the image
    norm = nn.BatchNorm2d(channels)  # µP: INPUT (gain and bias)
    return nn.Sequential(conv, norm, *([nn.MaxPool2d(2)] if pool else []), nn.ReLU(inplace=True))


class Davidnet(nn.Module):
    """Images [B, 3, 32, 32] -> logits [B, classes]: eight convolutions of N, 2N, 4N and 8N channels, and a readout.

    output_mult: alpha_output, on top of the original's own `READOUT_SCALE`.
    """

    def __init__(self, width: int = DAVIDNET_WIDTH, *, classes: int = 10, output_mult: float = 1.0) -> None:
        super().__init__()
        n, self.output_mult = width, output_mult  # µP: a mult, tuned at the base width
        self.prep = conv_norm(3, n)
        self.layer1 = conv_norm(n, 2 * n, pool=True)
        self.residual1 = Residual(nn.Sequential(conv_norm(2 * n, 2 * n), conv_norm(2 * n, 2 * n)))
        self.layer2 = conv_norm(2 * n, 4 * n, pool=True)
        self.layer3 = conv_norm(4 * n, 8 * n, pool=True)
        self.residual3 = Residual(nn.Sequential(conv_norm(8 * n, 8 * n), conv_norm(8 * n, 8 * n)))
        self.readout = nn.Linear(8 * n, classes, bias=False)  # µP: OUTPUT
        nn.init.zeros_(self.readout.weight)  # µP: App. D.2

    def forward(self, x_Bx3xHxH: Tensor) -> Tensor:
        x = self.residual1(self.layer1(self.prep(x_Bx3xHxH)))
        x = self.residual3(self.layer3(self.layer2(x)))
        return self.readout(F.max_pool2d(x, 4).flatten(1)) * (READOUT_SCALE * self.output_mult)


class WideResNet50(nn.Module):
    """Images [B, 3, H, H] -> logits [B, classes]: Wide ResNet-50-2-bottleneck with all its channels scaled.

    At width 64 it is torchvision's ``wide_resnet50_2`` (whose blocks it is made of), parameter by parameter; at
    another, every number of channels is N / 64 times that one's (the width multiplier of Table 13).
    """

    def __init__(self, width: int = 64, *, classes: int = 1000, output_mult: float = 1.0) -> None:
        super().__init__()
        self.output_mult = output_mult  # µP: a mult, tuned at the base width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)  # µP: INPUT
        self.bn1 = nn.BatchNorm2d(width)  # µP: INPUT (gain and bias)
        channels = width
        for i, blocks in enumerate((3, 4, 6, 3)):
            planes = width * 2**i
            stage = []
            for j in range(blocks):
                stride = 2 if i and not j else 1
                shortcut = None
                if not j:
                    shape = nn.Conv2d(channels, 4 * planes, 1, stride=stride, bias=False)  # µP: HIDDEN
                    shortcut = nn.Sequential(shape, nn.BatchNorm2d(4 * planes))
                stage.append(Bottleneck(channels, planes, stride, shortcut, base_width=128))  # µP: HIDDEN
                channels = 4 * planes
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(channels, classes)  # µP: OUTPUT
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.weight)  # µP: App. D.2
        nn.init.zeros_(self.fc.bias)
        self.own_init = by_fan_out(self)

    def forward(self, x_Bx3xHxH: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x_Bx3xHxH))), 3, stride=2, padding=1)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3))) * self.output_mult


def by_fan_out(model: nn.Module) -> dict[str, float]:
    """How the std of kernels drawn by fan_out goes with width, for `Plan.initialize`: few numbers do not show it."""
    return {f"{name}.weight": -0.5 for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
