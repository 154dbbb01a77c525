"""Residual networks: what they compute, and how µP sees them."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from mutransfer import scaling_plan
from mutransfer.models.resnet import DAVIDNET_WIDTH, Davidnet, WideResNet50
from mutransfer.models.winograd import Conv3x3, pays, winograd
from mutransfer.parametrization.tables import Role
from mutransfer.training.step import Recorder


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
    roles = {name: z.role for name, z in scaling_plan(base, model, optimizer="sgd").items()}
    kernels = [name for name, p in model.named_parameters() if p.ndim == 4]
    assert roles[kernels[0]] is Role.INPUT and {roles[name] for name in kernels[1:]} == {Role.HIDDEN}
    (readout,) = (name for name, p in model.named_parameters() if p.ndim == 2)
    assert roles[readout] is Role.OUTPUT
    gains = {role for name, role in roles.items() if model.get_parameter(name).ndim == 1}
    assert gains <= {Role.INPUT, Role.SCALAR}  # the bias of the classes does not grow


# ---- Winograd's convolutions -----------------------------------------------------------------------------------------


def case(batch: int, channels_in: int, channels: int, height: int) -> list[torch.Tensor]:
    """x and w, channels-last with gradients, and what the output's gradient is."""
    torch.manual_seed(0)
    x, y = (torch.randn(batch, c, height, height) for c in (channels_in, channels))
    w = torch.randn(channels, channels_in, 3, 3) / (9 * channels_in) ** 0.5
    x, w, y = (tensor.to(memory_format=torch.channels_last) for tensor in (x, w, y))
    return [x.requires_grad_(), w.requires_grad_(), y]


def largest_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).detach().abs().max() / exact.detach().abs().max())


@pytest.mark.parametrize("height", [4, 8, 16, 32])
@pytest.mark.parametrize("batch", [1, 37])  # 37 images are cut into unequal parts from 16 x 16 on
def test_values_and_gradients_are_the_convolutions(height, batch):
    """To float32's rounding, of which Winograd's has about ten times that of a sum of products."""
    x, w, dy = case(batch, 64, 96, height)
    exact = F.conv2d(x.double(), w.double(), padding=1)
    found = winograd(x, w)
    assert found.shape == exact.shape and found.is_contiguous(memory_format=torch.channels_last)
    assert largest_error(found, exact) < 5e-5
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, w), dy), torch.autograd.grad(exact, (x, w), dy.double()), strict=True
    ):
        assert ours.shape == theirs.shape and largest_error(ours, theirs) < 5e-5


def test_a_recorded_step_keeps_nothing_in_between():
    """One operator forward, one backward: of the products, which are many times the images, nobody holds any."""
    x, w, dy = case(2, 64, 64, 8)
    with Recorder() as recorder:
        torch.autograd.grad(winograd(x, w), (x, w), dy)
    assert [str(call.function) for call in recorder.calls] == [
        "mutransfer.winograd.default",
        "mutransfer.winograd_backward.default",
    ]


def test_edges_see_zeros_and_every_tap_its_pixel():
    """A kernel with a single one shifts the image; what comes in from beyond the edge is zero."""
    x, w, _ = case(2, 64, 64, 8)
    for row, column in itertools.product(range(3), range(3)):
        shift = torch.zeros_like(w)
        shift[range(64), range(64), row, column] = 1
        expected = F.pad(x, (1, 1, 1, 1))[:, :, row : row + 8, column : column + 8]
        torch.testing.assert_close(winograd(x, shift), expected, rtol=0, atol=1e-4)


SHAPES = [(64, 6, 6), (64, 64, 64), (64, 8, 4), (32, 8, 8)]
OTHERS = [{"dtype": torch.float64}, {"device": "meta"}]


@pytest.mark.parametrize(("shape", "kind"), [*((x, {}) for x in SHAPES), *(((64, 8, 8), x) for x in OTHERS)], ids=str)
def test_what_does_not_pay_is_torchs_own(shape, kind):
    """Under autocast too: Winograd's transforms would lose too many of bfloat16's eight bits."""
    x = torch.randn(2, *shape, **kind)
    conv = Conv3x3(x.shape[1], 64).to(x)
    assert not pays(x, conv.weight)
    if x.device.type == "cpu":
        assert torch.equal(conv(x), F.conv2d(x, conv.weight, padding=1))
    conv, x = Conv3x3(64, 64), torch.randn(2, 64, 8, 8)
    assert pays(x, conv.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, conv.weight) and conv(x).dtype == torch.bfloat16


def test_a_networks_gradients_are_those_of_torchs_convolutions():
    """Of loss and every parameter, beside float64; a training is no test, it multiplies any rounding a thousandfold."""
    torch.manual_seed(0)
    ours = Davidnet(32)
    nn.init.normal_(ours.readout.weight, std=0.1)
    theirs = copy.deepcopy(ours).double()
    x, y = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    with Recorder() as recorder:
        loss = F.cross_entropy(ours(x), y)
    assert sum(call.function == torch.ops.mutransfer.winograd.default for call in recorder.calls) == 6  # of 64 and more
    exact = F.cross_entropy(theirs(x.double()), y)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    loss.backward()
    exact.backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (p.grad - q.grad).norm() < 1e-2 * q.grad.norm(), name
