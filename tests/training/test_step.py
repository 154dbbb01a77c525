"""The replayed step computes what autograd and the optimizer compute, for every kind of model; else it is not used."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Sequence
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.parametrization import scaling_plan
from mutransfer.training import step as step_module
from mutransfer.training.step import Step
from tests.models.tiny import updated
from tests.nets import MLP, ConvNet, Transformer

STEPS, BATCH = 5, 8
Compute = Callable[[Tensor, Tensor], Tensor]


class Images(ConvNet):
    """BatchNorm, GroupNorm and dropout."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x.view(-1, 3, 4, 4), 0.2))


class Words(Transformer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x.abs() * 10).long() % 50).mean(1)


BUILDS: dict[str, Callable[[int], nn.Module]] = {"mlp": lambda n: MLP(n, d_in=48), "conv": Images, "words": Words}
BUILDS["tied words"] = lambda width: Words(width, tied=True)
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, fused=True),
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9, fused=True),
    "decay": torch.optim.SGD,
    "adam": lambda groups: torch.optim.AdamW(groups, fused=True),
}


def make(
    name: str, optimizer: str, precision: str = "float32", parametrization: str = "mup", device: str = "cpu"
) -> tuple[nn.Module, torch.optim.Optimizer, Compute]:
    """A µP model at twice its base width, its optimizer, and its loss on 64 examples."""
    torch.manual_seed(0)
    build = BUILDS[name]
    base, model = build(32), build(64)
    kind = "adam" if optimizer == "adam" else "sgd"
    plan = scaling_plan(base, model, parametrization=parametrization, optimizer=kind)
    plan.initialize(model, base)
    examples = torch.randn(64, 48)
    if precision == "float64":
        model, examples = model.double(), examples.double()
    model, examples = model.to(device), examples.to(device)

    def compute(rows: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            return F.cross_entropy(model(examples.index_select(0, rows)), labels)

    groups = plan.param_groups(model, lr=2**-7, weight_decay=0.1 if optimizer == "decay" else 0)
    return model, OPTIMIZERS[optimizer](groups), compute


def batches(device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    pairs = [[torch.randint(high, (BATCH,), generator=generator) for high in (64, 10)] for _ in range(STEPS)]
    return [(rows.to(device), labels.to(device)) for rows, labels in pairs]


def textbook(optimizer: torch.optim.Optimizer, compute: Compute) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda rows, labels: updated(optimizer, compute(rows, labels))


def run(step: Callable[[Tensor, Tensor], Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The losses and the final state, under a schedule."""
    torch.manual_seed(7)  # of the dropout
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 / (1 + n))
    losses = []
    for rows, labels in batches(next(model.parameters()).device.type):
        losses.append(step(rows, labels))
        schedule.step()
    return [*losses, *(value.clone() for value in model.state_dict().values())]


CASES = [*((optimizer, "float32") for optimizer in OPTIMIZERS), ("momentum", "bfloat16"), ("adam", "bfloat16")]


@pytest.mark.parametrize(("optimizer", "precision"), CASES)
@pytest.mark.parametrize("name", BUILDS)
def test_equal_to_the_textbook_loop_bit_for_bit(name: str, optimizer: str, precision: str) -> None:
    """Dropout, running statistics, tied weights, multipliers, schedules (no rate may be baked in): speed must not
    change a result.

    Plain SGD may round a product and its update together: compared in float64, to 1e-12.
    """
    folds = optimizer == "sgd" and precision == "float32"
    precision = "float64" if folds else precision
    table = "mup_table8" if name == "mlp" else "mup"  # with and without multipliers
    model, opt, compute = make(name, optimizer, precision, table)
    step = Step(compute, opt)
    ours = run(step, model, opt)
    assert step.is_replayed
    model, opt, compute = make(name, optimizer, precision, table)
    theirs = run(textbook(opt, compute), model, opt)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12 if folds else 0, atol=1e-12 if folds else 0)


def test_plain_sgd_stores_no_gradient_of_a_matrix() -> None:
    """The gradients' products go straight into the weights: no buffer of the weights' size is written and read."""
    model, optimizer, compute = make("mlp", "sgd")
    step = Step(compute, optimizer)
    run(step, model, optimizer)
    (kind,) = step._kinds.values()
    names = [str(constant) for constant in kind.replay.__globals__.values()]
    assert names.count("aten.addmm_.default") == 3 and names.count("aten.add_.Tensor") == 3  # weights, biases


# from the loss and a list that grows by one at every call: the loss that is taken instead
SPOILS: dict[str, Callable[[Tensor, list[float]], Tensor]] = {
    "reads a value": lambda loss, calls: loss * 2 if loss.item() > 0 else loss,
    "a number": lambda loss, calls: loss * len(calls),
    "makes a tensor": lambda loss, calls: loss * torch.tensor(calls).sum(),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_step_that_is_not_always_the_same_is_not_replayed(spoil: Callable[..., Tensor]) -> None:
    """A branch on a value, a number or a tensor that Python makes anew: replaying it would be silently wrong."""
    found = []
    for is_ours in (True, False):
        model, optimizer, compute = make("mlp", "momentum")
        calls: list[float] = []

        def spoiled(*batch: Tensor, compute: Compute = compute, calls: list[float] = calls) -> Tensor:
            calls.append(1.0)
            return spoil(compute(*batch), calls)

        step = Step(spoiled, optimizer) if is_ours else textbook(optimizer, spoiled)
        found.append(run(step, model, optimizer))
        assert not (isinstance(step, Step) and step.is_replayed)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_every_shape_of_a_batch_has_its_own_replay(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets of lengths: recorded twice each, then replayed; shapes beyond the limit stay under autograd."""
    monkeypatch.setattr(step_module, "SHAPES", 2)
    sizes = [3, 5, 5, 3, 7, 3, 5, 7, 7, 3]

    def trained(make_step: Callable[..., Callable[..., Tensor]]) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).double()
        momentum = 0.9 if optimizer == "momentum" else 0.0
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
        step = make_step(lambda x, y: (model(x) - y).square().mean(), opt)
        losses = [step(torch.randn(n, 4).double(), torch.randn(n, 1).double()) for n in sizes]
        return [*losses, *(p.detach() for p in model.parameters())]

    made: list[Step] = []
    ours = trained(lambda compute, opt: made.append(Step(compute, opt)) or made[0])
    for a, b in zip(ours, trained(lambda compute, opt: textbook(opt, compute)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert [*made[0].recorded.values()] == [2, 2]


def on_the_cpu(function: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], object]]:
    """What a CUDA graph does: runs again on the tensors of the first time, and writes to them."""
    outputs = function()

    def again() -> None:
        for old, new in zip(outputs, function(), strict=True):
            old.copy_(new)

    return outputs, again


def test_a_graph_reads_each_batch_and_leaves_the_losses_before() -> None:
    """Its tensors are the same ones at every step: a batch must be copied in, a kept loss must be copied out."""
    call = step_module._on_fixed_tensors(lambda x: [x.sum(), x * 2], [torch.zeros(3)], on_the_cpu)
    found = [call(torch.full((3,), float(i))) for i in (1, 2)]
    assert [loss.item() for loss, _ in found] == [3, 6]
    assert found[1][1].tolist() == [4, 4, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", BUILDS)
def test_a_gpu_replays_a_graph_that_is_the_textbook_loop(name: str, optimizer: str, precision: str) -> None:
    """Within rounding: a GPU may add in another order. Its dropout draws differ inside a graph, so "conv" has none."""
    found = []
    for kind in (Step, lambda compute, opt: textbook(opt, compute)):
        model, opt, compute = make(name, optimizer, precision, device="cuda")
        with mock.patch.object(F, "dropout", lambda x, p: x) if name == "conv" else contextlib.nullcontext():
            step = kind(compute, opt)
            found.append(run(step, model, opt))
        assert not isinstance(step, Step) or {kind.replay.__name__ for kind in step._kinds.values()} == {"call"}
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 if precision == "float32" else 1e-2)


def test_replaying_keeps_no_tensor_of_the_recording() -> None:
    """The recorded activations of a big model would double its memory."""
    kept: list[weakref.ref[Tensor]] = []
    model, optimizer, compute = make("mlp", "sgd")

    def spied(*batch: Tensor) -> Tensor:
        kept.append(weakref.ref(loss := compute(*batch)))
        return loss

    run(Step(spied, optimizer), model, optimizer)
    gc.collect()
    assert len(kept) == 2 and not any(ref() is not None for ref in kept)
