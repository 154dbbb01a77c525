"""Tensor by tensor against the reference implementation: the `mup` package on PyPI, which is Table 8 in code."""

import copy

import mup
import pytest
import torch
from nets import MLP, ConvNet, Transformer, tokens, vectors

from mutransfer import MUP, scaling_plan

TABLE8 = MUP.shifted(output=-1)
BASE = 32
NETS = {
    "mlp": (MLP, "readout", lambda: vectors()[0]),
    "conv": (ConvNet, "fc", lambda: torch.randn(4, 3, 8, 8)),
    "transformer": (Transformer, "readout", lambda: tokens()[0]),
}
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, mup.MuSGD),
    "adam": (torch.optim.Adam, mup.MuAdam),
    "adamw": (torch.optim.AdamW, mup.MuAdamW),
}


def reference(build, readout, width, seed):
    """The model as a user of mup has it: MuReadout, base shapes set, parameters rescaled by the package."""

    def with_readout(w):
        net = build(w)
        old = getattr(net, readout)
        new = mup.MuReadout(old.in_features, old.out_features, bias=old.bias is not None)
        new.load_state_dict(old.state_dict())
        setattr(net, readout, new)
        return net

    torch.manual_seed(seed)
    net = with_readout(width)
    mup.set_base_shapes(net, with_readout(BASE), delta=with_readout(BASE + 32))
    return net


def ours(build, width, seed, optimizer, parametrization=TABLE8):
    torch.manual_seed(seed)
    model, base = build(width), build(BASE)
    plan = scaling_plan(base, model, parametrization=parametrization, optimizer=optimizer)
    plan.initialize(model, base)
    return plan, model


def plain(name):
    return name.replace("parametrizations.weight.original", "weight")


def settings(optimizer, params):
    by_id = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name: by_id[id(p)] for name, p in params.items()}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_same_scales_as_the_reference(net, ratio):
    """LR, weight decay, init and forward multiplier of every tensor, from the same draws."""
    build, readout, data = NETS[net]
    theirs = reference(build, readout, ratio * BASE, seed=ratio)
    for name, (torch_optimizer, mup_optimizer) in OPTIMIZERS.items():
        plan, model = ours(build, ratio * BASE, ratio, name)
        params = {plain(n): p for n, p in model.named_parameters()}
        reference_params = dict(theirs.named_parameters())
        assert params.keys() == reference_params.keys()

        want = settings(mup_optimizer(theirs.parameters(), lr=0.1, weight_decay=0.01), reference_params)
        got = settings(torch_optimizer(plan.param_groups(model, lr=0.1, weight_decay=0.01)), params)
        for tensor, p in reference_params.items():
            assert got[tensor] == pytest.approx(want[tensor], rel=1e-12), (name, tensor)
            torch.testing.assert_close(params[tensor], p, msg=lambda m, t=tensor: f"{t}: {m}")

        same_weights = copy.deepcopy(model)
        with torch.no_grad():
            for n, p in same_weights.named_parameters():
                p.copy_(reference_params[plain(n)])
        x = data()
        torch.testing.assert_close(same_weights(x), theirs(x))  # the forward multiplier, by what it does


def test_the_comparison_can_fail():
    """SP's plan must not pass for the reference's: LR, init and output all differ at 4x."""
    build, readout, data = NETS["mlp"]
    theirs, (torch_optimizer, mup_optimizer) = reference(build, readout, 4 * BASE, 0), OPTIMIZERS["adam"]
    plan, model = ours(build, 4 * BASE, 0, "adam", "sp")
    want = settings(mup_optimizer(theirs.parameters(), lr=0.1), dict(theirs.named_parameters()))
    got = settings(torch_optimizer(plan.param_groups(model, lr=0.1)), dict(model.named_parameters()))
    assert got["blocks.0.weight"] != want["blocks.0.weight"]
    assert not torch.allclose(model.readout.weight, theirs.readout.weight)
    assert not torch.allclose(model(x := data()), theirs(x))
