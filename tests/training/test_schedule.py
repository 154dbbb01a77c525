"""Schedules are the paper's six, and they multiply: each group's share of the learning rate is kept at every step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from mutransfer import scaling_plan
from mutransfer.errors import UserError
from mutransfer.training.loop import train
from mutransfer.training.schedule import FIGURE_4, SCHEDULES, schedule
from mutransfer.training.spec import RunSpec
from mutransfer.training.task import Classification
from tests.nets import MLP
from tests.runs import tiny

STEPS = 50
SPEC: RunSpec = tiny.spec(tiny.dataset(), steps=STEPS)
# torch's own schedulers, by Figure 4's letters; milestones are shares of 10k steps, as the paper gives them
TORCH: dict[str, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]] = {
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=STEPS),
    "step_0.1": lambda o: lr_scheduler.MultiStepLR(o, [STEPS * 5 // 10, STEPS * 8 // 10], gamma=0.1),
    "step_0.3": lambda o: lr_scheduler.MultiStepLR(o, [STEPS * 4 // 10, STEPS * 7 // 10], gamma=0.3),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 1.0),
    "inverse_sqrt": lambda o: lr_scheduler.LambdaLR(o, lambda n: min(1.0, math.sqrt(0.1 * STEPS / max(n, 1)))),
}


def groups() -> tuple[nn.Module, list[dict]]:
    """A µP net at four times its base width: three different learning rates."""
    torch.manual_seed(0)
    base, model = MLP(16, d_in=48), MLP(64, d_in=48)
    plan = scaling_plan(base, model, optimizer="sgd")
    plan.initialize(model, base)
    return model, plan.param_groups(model, lr=2**-7)


# each recipe's factor at shares of training: a straight rise from 0 to the rate that is given, then the fall
RECIPES: dict[str, dict[float, float]] = {
    "warmup_linear": {0: 0, 2.5 / 24: 0.5, 5 / 24: 1, 14.5 / 24: 0.5, 1: 0},  # cifar10-fast: 5 of 24 epochs
    "warmup_cosine": {0: 0, 4 / 50: 0.5, 8 / 50: 1, 29 / 50: 0.5, 1: 0},  # NVIDIA's ResNet-50: 8 of 50 epochs
    "warmup_inverse_sqrt": {0: 0, 0.02: 0.5, 0.04: 1, 0.16: 0.5},  # fairseq: 4%, then 1 / sqrt(step)
    # BERT: 10,000 of a million steps in pretraining, a tenth in fine-tuning (App. F.3)
    "warmup_0.01_linear": {0: 0, 0.005: 0.5, 0.01: 1, 0.505: 0.5, 0.7525: 0.25},
    "warmup_0.1_linear": {0: 0, 0.05: 0.5, 0.1: 1, 0.55: 0.5, 0.775: 0.25},
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_with_a_warm_up(name: str) -> None:
    assert [schedule(name)(t) for t in RECIPES[name]] == pytest.approx([*RECIPES[name].values()])


@pytest.mark.parametrize("name", FIGURE_4)
def test_the_loop_multiplies_every_groups_rate(name: str) -> None:
    """At each step: torch's scheduler of that kind times the group's own rate. Ratios between groups never change.
    The rate that is given is the first step's and the largest, and no step is at 0: what a sweep over it means.

    A scheduler that *sets* the rate makes one group of all (OneCycleLR with a number): SP that is called µP.
    """
    model, own = groups()
    optimizer, seen = torch.optim.Adam(own), []
    optimizer.register_step_pre_hook(lambda *_: seen.append([group["lr"] for group in optimizer.param_groups]))
    record = train(SPEC, model, optimizer, Classification(tiny.dataset(), F.cross_entropy), schedule=name)
    assert record.status == "finished" and len(seen) == STEPS
    _, own = groups()
    start, first = [group["lr"] for group in own], [rates[0] for rates in seen]
    assert len(set(start)) == 3 and seen[0] == start
    assert first == sorted(first, reverse=True) and first[-1] > 0
    theirs = torch.optim.Adam(own)
    scheduler = TORCH[name](theirs)
    for rates in seen:
        assert rates == pytest.approx([group["lr"] for group in theirs.param_groups], rel=1e-9)
        assert [rate / rates[0] for rate in rates] == pytest.approx([rate / start[0] for rate in start], rel=1e-12)
        theirs.step()
        scheduler.step()


def test_an_unknown_schedule_is_refused() -> None:
    """With the nearest name, before anything is trained."""
    assert list(FIGURE_4) == list(TORCH) and set(SCHEDULES) == {*FIGURE_4, *RECIPES}
    with pytest.raises(UserError, match=r"unknown schedule 'cosin'\. Did you mean 'cosine'"):
        schedule("cosin")
    model, own = groups()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(UserError, match="Did you mean 'linear'"):
        train(SPEC, model, torch.optim.SGD(own), Classification(tiny.dataset(), F.cross_entropy), schedule="liner")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
