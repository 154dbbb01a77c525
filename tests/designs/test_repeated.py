"""Repeated searches: who is selected, what is trained and from how many inits, on losses given by a formula."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mutransfer.designs.repeated import Plan, Searches, repeated
from mutransfer.designs.search import Grid
from mutransfer.errors import UserError
from mutransfer.results.searches import searches_report
from mutransfer.results.selection import searches
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

NUMBERS = Searches(
    table="Table 4",
    widths=(8, 32),
    pool=12,
    search=8,
    searches=5,
    direct_pool=6,
    inits=2,
    percentiles=(25, 50, 100),
    default_log2_lr=-11.0,
    space={"lr": Grid(tuple(2.0**-k for k in range(3, 9))), "output_mult": Grid((0.5, 1.0, 2.0, 4.0))},
    statement="",
    sizes=(2, 4),
    template={"steps": 100},
    scored={"beam": 5},
)


def flops(spec: RunSpec) -> float:
    """Eight samples on the proxy are worth two trainings of the target."""
    return float(spec.width * spec.steps)


@pytest.fixture(scope="module")
def specs() -> list[RunSpec]:
    hps = (("output_mult", 1.0), ("beam", 0))
    data = tiny.dataset()
    return [tiny.spec(data, parametrization=p, width=w, hps=hps) for p in ("sp", "mup") for w in (8, 32)]


@pytest.fixture
def plan(specs: list[RunSpec]) -> Plan:
    return Plan.of(NUMBERS, specs, flops)


class Trainer:
    """Validation loss |log2 LR + 6| on the proxy; BLEU falls with it. Training losses say the opposite."""

    def __init__(self, diverge: float = 0.0) -> None:
        self.specs: list[RunSpec] = []
        self.diverge = diverge  # SP at width 32 diverges above this log2 LR

    def __call__(self, specs: list[RunSpec]) -> list[RunRecord]:
        self.specs += specs
        return [self.record(spec) for spec in specs]

    def record(self, spec: RunSpec) -> RunRecord:
        if spec.parametrization == "sp" and spec.log2_lr > self.diverge:
            return RunRecord(spec=spec, status="diverged", train_loss=math.inf, steps_done=10)
        loss = abs(spec.log2_lr + 6) + 0.01 * float(spec.hp("output_mult"))
        scores = {"bleu_valid": 30 - loss + spec.seed, "bleu_test": 29 - loss} if spec.hp("beam") else {}
        return RunRecord(
            spec=spec, status="finished", train_loss=-loss, test_loss=loss, steps_done=spec.steps, scores=scores
        )


SCORES = ("bleu_valid", "bleu_test")


def test_selection_is_by_validation_loss_alone(plan: Plan) -> None:
    """Of the samples that a search looks at; training loss would choose others."""
    train = Trainer()
    frame, _ = repeated(plan, train, SCORES)
    pool = frame[frame["role"] == "proxy"].set_index("sample")
    looks = searches(12, 8, 5, plan.proxy.seed)
    best = {int(pool.loc[list(look), "test_loss"].idxmin()) for look in looks}
    assert set(frame[frame["role"] == "mutransfer"]["sample"]) == best
    assert {int(pool.loc[list(look), "train_loss"].idxmin()) for look in looks} != best
    assert pool["bleu_valid"].isna().all()  # the proxy translates nothing


def test_every_winner_trains_the_target_from_every_init(plan: Plan) -> None:
    """µTransfer in µP, the others in SP, at the target's width; the default too; equal runs are made once."""
    train = Trainer()
    frame, records = repeated(plan, train, SCORES)
    for role, parametrization in (("mutransfer", "mup"), ("naive", "sp"), ("direct", "sp"), ("default", "sp")):
        part = frame[frame["role"] == role]
        assert (part["width"] == 32).all() and (part["parametrization"] == parametrization).all()
        assert (part.groupby("sample")["seed"].apply(sorted).map(tuple) == (0, 1)).all()
        assert part["bleu_test"].notna().all()
    default = frame[frame["role"] == "default"]
    assert (default["sample"] == -1).all() and (default["log2_lr"] == -11).all()
    assert len(records) == len({record.spec for record in records}) == len(set(train.specs))
    naive, ours = (frame[frame["role"] == role] for role in ("naive", "mutransfer"))
    assert [*naive["sample"]] == [*ours["sample"]] and [*naive["log2_lr"]] == [*ours["log2_lr"]]


def test_the_target_gets_as_many_samples_as_the_compute_is_worth(specs: list[RunSpec]) -> None:
    """And one, since the winner of a search on the proxy trains the target once."""
    for power, samples in ((2, 1 + round(8 / 16)), (1, 1 + 2)):
        assert Plan.of(NUMBERS, specs, lambda spec, p=power: float(spec.width**p)).direct_size == samples


def test_a_pool_that_is_too_small_is_refused(specs: list[RunSpec]) -> None:
    with pytest.raises(UserError, match="on the proxy looks at 13 samples of a pool of 12"):
        Plan.of(dataclasses.replace(NUMBERS, search=13), specs, flops)
    with pytest.raises(UserError, match="on the target looks at 9 samples of a pool of 6"):
        Plan.of(NUMBERS, specs, lambda spec: float(spec.steps))


def test_smaller_searches_of_figure_6_look_at_the_first_samples(specs: list[RunSpec]) -> None:
    """All their winners train the target; the whole search selects as without them."""
    whole, sized = (repeated(Plan.of(NUMBERS, specs, flops, has_sizes=s), Trainer(), SCORES)[0] for s in (False, True))
    plan = Plan.of(NUMBERS, specs, flops, has_sizes=True)
    assert plan.sizes["mutransfer"] == [2, 4, 8] and plan.sizes["direct"] == [1, 2, 3]
    ours = {name: set(frame[frame["role"] == "mutransfer"]["sample"]) for name, frame in (("a", whole), ("b", sized))}
    assert ours["a"] < ours["b"]
    assert len(whole) < len(sized)


def test_the_table_is_what_the_analysis_reads(plan: Plan) -> None:
    """A pool whose every sample diverged has no winner; the others' outcomes are there."""
    frame, _ = repeated(plan, Trainer(diverge=-12.0), SCORES)
    assert set(frame[frame["role"] == "naive"]["status"]) == {"diverged"}
    assert not (frame["role"] == "direct").any()
    report = searches_report(frame, plan.facts)
    assert report.methods["naive"].percentile(50, "bleu_valid").value == -math.inf
    chosen = {i for i in report.methods["mutransfer"].chosen}
    assert chosen == set(frame[frame["role"] == "mutransfer"]["sample"])


def test_what_is_expected_is_about_what_runs(plan: Plan) -> None:
    """The plan that is printed: the same pools, and winners by rank."""
    train = Trainer()
    _, records = repeated(plan, train, SCORES)
    expected = set(plan.expected())
    assert set(plan.pool()) <= expected
    assert abs(len(expected) - len(records)) <= 0.3 * len(records)
    assert "5 searches of 8 from 12 samples at width 8" in plan.line()
