"""Residual networks: what they compute, what they cost, and how µP sees them."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from mutransfer import scaling_plan
from mutransfer.models.resnet import DAVIDNET_WIDTH, Davidnet, WideResNet50, training_cost
from mutransfer.parametrization.tables import Role


def test_davidnet_at_width_64_is_the_published_size():
    """Eight convolutions without biases, their BatchNorms, and a readout without bias: 6.57 million parameters."""
    model = Davidnet()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 128, 128, 128, 256, 512, 512, 512] and DAVIDNET_WIDTH == 64
    assert sum(p.numel() for p in model.parameters()) == 6_573_120
    assert model(torch.randn(2, 3, 32, 32)).abs().max() == 0  # the readout starts at zero


def test_wide_resnet_at_width_64_is_torchvisions():
    """Same names, same shapes, same logits from the same parameters."""
    torch.manual_seed(0)
    theirs = torchvision.models.wide_resnet50_2(num_classes=10).eval()
    with torch.device("meta"):
        ours = WideResNet50(classes=10).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("build", "size"), [(Davidnet, 32), (WideResNet50, 64)])
def test_only_the_ends_of_the_network_are_not_hidden(build, size):
    """First kernel, gains and biases are input weights, all other kernels hidden, the readout an output weight."""
    base, model = build(8), build(16)
    roles = {name: z.role for name, z in scaling_plan(base, model, optimizer="sgd").sizes.items()}
    kernels = [name for name, p in model.named_parameters() if p.ndim == 4]
    assert roles[kernels[0]] is Role.INPUT and {roles[name] for name in kernels[1:]} == {Role.HIDDEN}
    (readout,) = (name for name, p in model.named_parameters() if p.ndim == 2)
    assert roles[readout] is Role.OUTPUT
    gains = {
        m for name, m in roles.items() if name.endswith(("weight", "bias")) and model.get_parameter(name).ndim == 1
    }
    assert gains <= {Role.INPUT, Role.SCALAR}  # the bias of the classes does not grow


def test_flops_are_those_of_the_convolutions():
    """Davidnet at 1x: 379 million multiply-adds forward, counted layer by layer here."""
    n = 64
    macs = 9 * (3 * n * 32**2 + 2 * n * n * 32**2 + 2 * (2 * n) ** 2 * 16**2)
    macs += 9 * (2 * n * 4 * n * 16**2 + 4 * n * 8 * n * 8**2 + 2 * (8 * n) ** 2 * 4**2) + 8 * n * 10
    assert training_cost(Davidnet, 32).flops == 3 * 2 * macs
