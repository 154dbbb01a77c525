"""Algorithm 1: who wins, what is copied, what trains and what it costs; on losses given by a formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from experiments.bert import experiment as bert
from experiments.cifar_mlp.experiment import EXPERIMENT
from experiments.iwslt14.experiment import TABLE_4
from mutransfer.designs.algorithm import Algorithm, Copy, Model, Numbers, Score, Tuning, loss_at
from mutransfer.designs.design import Bench, expected, follow
from mutransfer.designs.space import Grid, LogUniform, put
from mutransfer.errors import UserError
from mutransfer.results.outcomes import Searches
from mutransfer.results.searches import TRANSLATION as BY_BLEU
from mutransfer.results.selection import MOST_CUTS, searches
from mutransfer.results.tuning import SearchReport
from mutransfer.training.spec import CURVE_POINTS, RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.dataset()
Record = Callable[[RunSpec], RunRecord]


class Trainer:
    """Trains by formula and keeps what it did, as a sweep over a store does."""

    def __init__(self, record: Record, limit: float = math.inf) -> None:
        self.record, self.limit = record, limit
        self.store: dict[str, RunRecord] = {}

    def __call__(self, specs: list[RunSpec]) -> list[RunRecord]:
        for spec in specs:
            if spec.run_id not in self.store and len(self.store) == self.limit:
                raise KeyboardInterrupt
            self.store.setdefault(spec.run_id, self.record(spec))
        return [self.store[spec.run_id] for spec in specs]

    def get(self, run_ids: Iterable[str]) -> dict[str, RunRecord]:
        return {run_id: self.store[run_id] for run_id in run_ids if run_id in self.store}

    @property
    def specs(self) -> list[RunSpec]:
        return [record.spec for record in self.store.values()]


def by_validation(diverge: float = math.inf) -> Record:
    """Validation loss |log2 LR + 6| + output_mult / 100; training losses say the opposite. Scored if asked for.

    SP diverges above the log2 LR ``diverge``.
    """

    def record(spec: RunSpec) -> RunRecord:
        if spec.parametrization == "sp" and spec.log2_lr > diverge:
            return RunRecord(spec=spec, status="diverged", train_loss=math.inf, steps_done=10)
        hps = dict(spec.hps)
        loss = abs(spec.log2_lr + 6) + 0.01 * float(hps["output_mult"])
        scores = {"bleu_valid": 30 - loss + spec.seed, "bleu_test": 29 - loss} if hps.get("beam") else {}
        scores |= {"sst2": 80 - loss} if hps.get("tuned") else {}
        scores |= {"sst2_scratch": 70.0} if hps.get("from_init") else {}
        done: dict[str, Any] = {"status": "finished", "steps_done": spec.steps, "scores": scores}
        return RunRecord(spec=spec, train_loss=-loss, test_loss=loss, **done)

    return record


def grid(hps: dict[str, Any], **changes: Any) -> list[RunSpec]:
    """A grid over three widths in SP and µP, with hyperparameters that are not tuned, too."""
    names = ((p, w, seed) for p in ("sp", "mup") for w in (16, 8, 32) for seed in (0, 1))
    own = {"hps": tuple(hps.items()), **changes}
    return [tiny.spec(DATA, parametrization=p, width=w, seed=seed, **own) for p, w, seed in names]


def table(algorithm: Algorithm, train: Callable[[list[RunSpec]], Iterable[RunRecord]]) -> pd.DataFrame:
    return algorithm.frame(follow(algorithm.run(), train))


# ---- one search, as the command tune makes it --------------------------------------------------------------------

SPACE = {"lr": LogUniform(-9, -2), "output_mult": LogUniform(2, 8)}
SPECS = grid({"loss": "xent", "output_mult": 32}, steps=640)


def width_squared(spec: RunSpec) -> float:
    return float(spec.steps * spec.width**2)


def quality(spec: RunSpec) -> float:
    """Lower is better, whatever the width: the optimum is lr = 2^-5, output_mult = 2^5."""
    return 1 + 0.05 * (spec.log2_lr + 5) ** 2 + 0.05 * (math.log2(float(spec.hp("output_mult"))) - 5) ** 2


def falling(status: Callable[[RunSpec], str] = lambda spec: "finished") -> Record:
    """A loss that falls to `quality` by the end of 640 steps."""

    def record(spec: RunSpec) -> RunRecord:
        if status(spec) == "failed":
            return RunRecord.failed(spec, "out of memory")
        is_done = status(spec) == "finished"
        done, points = spec.steps if is_done else 25, min(CURVE_POINTS, spec.steps)
        ends = [(i + 1) * spec.steps // points for i in range(points)]
        curve = tuple(quality(spec) + 640 / end / 100 for end in ends if end <= done)
        loss = quality(spec) + 640 / spec.steps / 100 if is_done else math.inf
        return RunRecord(spec=spec, status=status(spec), train_loss=loss, steps_done=done, loss_curve=curve)

    return record


def search(specs: list[RunSpec] = SPECS, samples: int = 16, **options: Any) -> Algorithm:
    space, known = options.pop("space", SPACE), options.pop("known", None)
    declared: dict[str, Any] = {"kind": "search", "table": "", "select": "training"}
    declared["methods"] = (Copy("target", "mup"),)
    numbers = Numbers(samples={"proxy": samples}, space=space)
    return Algorithm(Tuning(**declared, numbers={}, **options), numbers, specs, width_squared, known)


def ranked(algorithm: Algorithm) -> list[int]:
    specs = algorithm.pool(algorithm.pools[0])
    return sorted(range(len(specs)), key=lambda i: quality(specs[i]))


def copied(algorithm: Algorithm, sample: int) -> RunSpec:
    (spec,) = algorithm.evaluated(algorithm.declared.methods[0], "target", sample)
    return spec


def test_cifar_mlp_declares_what_the_paper_tuned() -> None:
    """Around the authors' multipliers (2^-8 and 32), so that a search could find them; all variants have a plan."""
    space = EXPERIMENT.variants["relu_xent"].search
    words = {"lr": "2^U(-9, 0)", "input_mult": "2^U(-13, -3)", "output_mult": "2^U(0, 10)"}
    assert {name: str(distribution) for name, distribution in space.items()} == words
    declared = search().declared
    for variant in EXPERIMENT.variants:
        bench = Bench(experiment=EXPERIMENT, dataset=DATA, scale="cpu", variant=variant)
        numbers = {"cpu": Numbers(samples={"proxy": EXPERIMENT.scales["cpu"].samples})}
        algorithm = replace(declared, numbers=numbers).algorithm(bench)
        assert (algorithm.model("proxy").width, algorithm.model("target").width) == (64, 1024)
        assert "tuning: 64 samples at width 64, " in algorithm.notes(EXPERIMENT.code)[0]


def test_the_best_sample_of_the_proxy_trains_the_target() -> None:
    """Zero-shot: all hyperparameters as they are, at another width; the search costs what its FLOPs say."""
    algorithm, train = search(), Trainer(falling())
    report = SearchReport(table(algorithm, train), is_halved=False)
    best = ranked(algorithm)[0]
    assert report.winner["sample"] == best
    *proxies, target = train.specs
    assert target == copied(algorithm, best) == replace(proxies[best], width=32) and target.parametrization == "mup"
    assert len(train.store) == 17 == len(expected(algorithm.run()))
    assert report.cost_fraction == pytest.approx(16 * (8 / 32) ** 2)


def test_diverged_and_failed_runs_do_not_win() -> None:
    """Where the best learning rates diverge or fail, the best of the others is copied; a failed run costs nothing."""
    algorithm = search()
    order, specs = ranked(algorithm), algorithm.pool(algorithm.pools[0])
    bad = {specs[order[0]].run_id: "diverged", specs[order[1]].run_id: "failed"}
    train = Trainer(falling(lambda spec: bad.get(spec.run_id, "finished")))
    report = SearchReport(table(algorithm, train), is_halved=False)
    assert train.specs[-1] == copied(algorithm, order[2])
    assert report.steps == 14 * 640 + 25  # the failed run has no steps, the diverged one those that it lived
    assert report.ranked["sample"].tolist()[:3] == order[2:5]


NOTHING = r"no sample of 16 has trained to the end at width 8 \(mup\), \d+ diverged, "
NO_ROOM = "at least 4 samples and 100 steps, here are 3 and 640"


@pytest.mark.parametrize(
    ("samples", "is_halved", "words", "made"),
    [(16, False, NOTHING, 16), (16, True, NOTHING, 16), (3, True, NO_ROOM, 0)],
)
def test_a_search_that_ends_without_a_winner_says_why(samples: int, is_halved: bool, words: str, made: int) -> None:
    """No target is trained with hyperparameters that diverge; three samples cannot be cut to a quarter."""
    train = Trainer(falling(lambda spec: "diverged" if spec.log2_lr > -8 else "failed"))
    with pytest.raises(UserError, match=words):
        table(search(samples=samples, is_halved=is_halved), train)
    assert len(train.store) == made


def test_an_interrupted_search_makes_no_run_twice() -> None:
    """Killed in the middle, the same call goes on, and its table is that of an uninterrupted one."""
    algorithm, train = search(is_halved=True, has_naive=True), Trainer(falling())
    whole = table(algorithm, Trainer(falling()))
    for train.limit in (3, 18, 24):
        with pytest.raises(KeyboardInterrupt):
            table(algorithm, train)
    train.limit = math.inf
    assert table(algorithm, train).equals(whole) and len(train.store) == 2 * (16 + 4 + 1 + 1)


def test_naive_transfer_is_the_same_search_in_sp() -> None:
    """The comparison of Tables 4 to 6: same samples, tuned and copied in SP; and it does not change µP's result."""
    with_sp, without = table(search(has_naive=True), Trainer(falling())), table(search(), Trainer(falling()))
    report, alone = SearchReport(with_sp, is_halved=False), SearchReport(without, is_halved=False)
    assert report.naive is not None and report.naive.parametrization == "sp" and report.naive.width == 32
    assert report.naive.log2_lr == report.target.log2_lr  # the formula knows no parametrization
    assert alone.naive is None and alone.cost_fraction == report.cost_fraction
    assert alone.runs.equals(with_sp[with_sp["parametrization"] == "mup"].reset_index(drop=True))


def test_halving_trains_the_best_longer() -> None:
    """16 x 40, 4 x 160, 1 x 640 steps, each from scratch, then the target; 3/16 of the full search."""
    train = Trainer(falling())
    algorithm = search(is_halved=True, known=train.get)
    report = SearchReport(table(algorithm, train), is_halved=True)
    order, specs = ranked(algorithm), algorithm.pool(algorithm.pools[0])
    steps = [(spec.steps, spec.width) for spec in train.specs]
    assert steps == [(40, 8)] * 16 + [(160, 8)] * 4 + [(640, 8), (640, 32)]
    longer = [replace(specs[i], steps=160) for i in order[:4]]
    assert train.specs[16:] == [*longer, specs[order[0]], copied(algorithm, order[0])]
    assert report.halving is not None and report.halving[1] == pytest.approx(3 / 16)
    assert report.agreement is None  # its full search was never made


def test_halving_and_the_full_search_meet_in_the_store() -> None:
    """In either order: the rungs are compared with the full search's runs, and what both need is trained once."""
    train = Trainer(falling())
    full = table(search(), train)
    report = SearchReport(table(search(is_halved=True, known=train.get), train), is_halved=True)
    assert len(train.store) == 16 + 1 + 16 + 4  # the last rung and the target were there
    assert report.agreement is not None and report.agreement.same_winner and report.agreement.regret == 0
    assert report.agreement.rank_correlations[:2] == pytest.approx((1, 1))
    told = SearchReport(full, is_halved=False)  # from the curves alone
    assert told.halving is not None and report.halving is not None
    assert [rung.ranking for rung in told.halving[0]] == [rung.ranking for rung in report.halving[0]]
    assert told.halving[1] == report.halving[1] == pytest.approx(3 / 16)


def test_a_shorter_run_is_the_first_part_of_the_longer() -> None:
    """What lets a loss curve tell the losses of a rung, at a constant learning rate: step by step the same losses."""

    def losses(steps: int) -> RunRecord:
        torch.manual_seed(0)  # as a worker does before each run
        return tiny.run(tiny.spec(DATA, steps=steps), DATA)

    short, long = losses(10), losses(40)
    assert short.loss_curve == long.loss_curve[:10]
    assert short.loss_curve[-1] == short.train_loss == loss_at(long, 10)


def test_a_curve_never_looks_ahead() -> None:
    """Only the chunks that lie wholly before the cut count; a run that had diverged by then counts as infinite."""
    curve = tuple(float(i) for i in range(50))
    spec = tiny.spec(DATA, steps=640)
    record = RunRecord(spec=spec, status="finished", train_loss=0, steps_done=640, loss_curve=curve)
    assert loss_at(record, 40) == 2  # chunks end at steps 12, 25, 38, 51
    assert loss_at(record, 38) == 2 and loss_at(record, 37) == 1
    assert math.isnan(loss_at(record, 11))
    diverged = replace(record, status="diverged", steps_done=100, loss_curve=curve[:8])
    assert loss_at(diverged, 160) == math.inf and loss_at(diverged, 40) == 2
    assert 4**MOST_CUTS <= CURVE_POINTS  # so every rung has a point


# ---- repeated searches, as Tables 4 and 5 -------------------------------------------------------------------------

MULTS = {"lr": Grid(tuple(2.0**-k for k in range(3, 9))), "output_mult": Grid((0.5, 1.0, 2.0, 4.0))}
REPEATED = Numbers(
    samples={"proxy": 12, "direct_pool": 6},
    space=MULTS,
    proxy=Model(width=8),
    targets={"target": Model(width=32, scored={"beam": 5})},
    search=8,
    searches=5,
    inits=2,
    default={"log2_lr": -11.0},
    template={"steps": 100},
)
TRANSLATION = grid({"output_mult": 1.0, "beam": 0})


def width_steps(spec: RunSpec) -> float:
    """Eight samples on the proxy are worth two trainings of the target."""
    return float(spec.width * spec.steps)


def repeated(flops: Callable[[RunSpec], float] = width_steps, **changes: Any) -> Algorithm:
    return Algorithm(TABLE_4, replace(REPEATED, **changes), TRANSLATION, flops)


def part(frame: pd.DataFrame, role: str) -> pd.DataFrame:
    return frame[frame["role"] == role]


def test_selection_is_by_validation_loss_alone() -> None:
    """Of the samples that a search looks at; training loss would choose others."""
    frame = table(repeated(), Trainer(by_validation()))
    pool = part(frame, "proxy").set_index("sample")
    looks = searches(12, 8, 5, 0)
    best = {int(pool.loc[list(look), "test_loss"].idxmin()) for look in looks}
    assert set(part(frame, "mutransfer")["sample"]) == best
    assert {int(pool.loc[list(look), "train_loss"].idxmin()) for look in looks} != best
    assert pool["bleu_valid"].isna().all()  # the proxy translates nothing


def test_every_winner_trains_the_target_from_every_init() -> None:
    """µTransfer in µP, the others in SP, at the target's width; the default too; equal runs are made once."""
    train = Trainer(by_validation())
    frame = table(repeated(), train)
    for role, parametrization in (("mutransfer", "mup"), ("naive", "sp"), ("direct", "sp"), ("default", "sp")):
        runs = part(frame, role)
        assert (runs["width"] == 32).all() and (runs["parametrization"] == parametrization).all()
        assert (runs.groupby("sample")["seed"].apply(sorted).map(tuple) == (0, 1)).all()
        assert runs["bleu_test"].notna().all()
    default = part(frame, "default")
    assert (default["sample"] == -1).all() and (default["log2_lr"] == -11).all()
    assert frame["run_id"].nunique() == len(train.store) < len(frame)
    naive, ours = part(frame, "naive"), part(frame, "mutransfer")
    assert [*naive["sample"]] == [*ours["sample"]] and [*naive["log2_lr"]] == [*ours["log2_lr"]]


def test_the_target_gets_as_many_samples_as_the_compute_is_worth() -> None:
    """And one, since the winner of a search on the proxy trains the target once."""
    for power, samples in ((2, 1 + round(8 / 16)), (1, 1 + 2)):
        assert repeated(lambda spec, p=power: float(spec.width**p)).direct() == samples


def test_smaller_searches_of_figure_6_look_at_the_first_samples() -> None:
    """All their winners train the target; the whole search selects as without them."""
    whole, sized = repeated(), repeated(sizes=(2, 4))
    assert sized.facts["sizes"] == {"mutransfer": [2, 4, 8], "direct": [1, 2, 3]}
    assert whole.facts["sizes"] == {"mutransfer": [], "direct": []}
    a, b = (part(table(algorithm, Trainer(by_validation())), "mutransfer") for algorithm in (whole, sized))
    assert set(a["sample"]) < set(b["sample"])


def test_the_table_of_searches_is_what_the_analysis_reads() -> None:
    """A pool whose every sample diverged has no winner; the others' outcomes are there."""
    frame = table(repeated(), Trainer(by_validation(-12.0)))
    assert set(part(frame, "naive")["status"]) == {"diverged"} and part(frame, "direct").empty
    report = Searches.of(BY_BLEU, frame, repeated().facts)
    assert report.methods["naive"].percentile(50, "bleu_valid").value == -math.inf
    assert {*report.methods["mutransfer"].chosen} == set(part(frame, "mutransfer")["sample"])


def test_what_is_expected_is_about_what_runs() -> None:
    """The plan that is printed: the same pools, and winners by rank."""
    algorithm, train = repeated(), Trainer(by_validation())
    table(algorithm, train)
    planned = set(expected(algorithm.run()))
    assert {spec for pool in algorithm.pools for spec in algorithm.pool(pool)} <= planned
    assert abs(len(planned) - len(train.store)) <= 0.3 * len(train.store)
    said = " ".join(algorithm.notes(None))
    assert "Table 4: 12 samples at width 8, " in said
    assert "searches of 8, 5 in all, each the cost of 2 trainings" in said


# ---- one search, copied to wider and deeper targets, as Table 6 ---------------------------------------------------

TABLE_6 = replace(bert.TABLE_6, judged={"from_init": 1})
TUNED = {"tuned": 5}
TARGETS = {
    "base": Model(width=16, hps={"depth": 4, "heads": 2}, scored=TUNED, published="BERT-base"),
    "large": Model(width=32, hps={"depth": 8}, scored=TUNED),
    "wide": Model(width=16, methods=("default", "naive", "mutransfer")),
    "deep": Model(width=8, hps={"depth": 4}, methods=("default", "mutransfer")),
}
TRANSFER = Numbers(
    samples={"proxy": 10},
    space=MULTS,
    proxy=Model(width=8, hps={"steps": 50}),
    targets=TARGETS,
    inits=3,
    default={"log2_lr": -11.0, "warm_up": 5},
    template={"steps": 100},
    scores={"sst2": Score(label="SST-2", metric="accuracy")},
)
BERT = grid({"output_mult": 1.0, "tuned": 0, "from_init": 0, "depth": 2, "heads": 1, "warm_up": 0})


def transfer(**changes: Any) -> Algorithm:
    def flops(spec: RunSpec) -> float:
        return width_steps(spec) * int(spec.hp("depth"))

    return Algorithm(TABLE_6, replace(TRANSFER, **changes), BERT, flops)


def test_what_a_table_of_transfer_trains() -> None:
    """The search, and each target by its methods from three inits, as planned."""
    algorithm, train = transfer(), Trainer(by_validation())
    assert [algorithm.changes(label) for label in TARGETS] == ["both", "both", "width", "depth"]
    frame = table(algorithm, train)
    assert len(frame) == len(train.store) == 10 + 3 * (4 + 4 + 3 + 2)
    planned = [replace(spec, log2_lr=0, hps=()) for spec in expected(algorithm.run())]
    assert planned == [replace(spec, log2_lr=0, hps=()) for spec in train.specs]
    said = "; ".join(algorithm.notes(None))
    assert "Table 6: 10 samples at width 8, 8e+03 FLOPs = 125% of one training of base (width 16, 100" in said
    assert "3 inits; what scoring them takes comes on top" in said
    assert algorithm.differs.startswith("proxy of width 8 and depth 2, 50 steps; targets: base (width 16, depth 4, 100")


def test_the_longer_default_gets_the_compute_of_the_search() -> None:
    """10 samples of 8 x 50 x 2 are 8000 FLOPs: 1.25 trainings of base (6400), 0.3125 of large (25600)."""
    algorithm = transfer()
    short, longer = TABLE_6.methods[:2]
    for label, steps in (("base", 225), ("large", 131)):
        default, long = (algorithm.evaluated(method, label, -1) for method in (short, longer))
        assert [spec.steps for spec in long] == [steps] * 3 and [spec.steps for spec in default] == [100] * 3
        assert [put(spec, {"steps": 100, "from_init": 1}) for spec in long] == default
    assert algorithm.flops(long[0]) == pytest.approx(algorithm.tuning_flops + algorithm.flops(default[0]), rel=0.01)


def test_methods_are_paired_and_keep_the_targets_own_size() -> None:
    """The winner in µP and in SP, the default in SP; scored, at the target's width, depth and length, base width 8."""
    train = Trainer(by_validation())
    frame = table(transfer(), train)
    made = {spec.run_id: spec for spec in train.specs}
    sizes = {"base": (16, 4, 2), "large": (32, 8, 1), "wide": (16, 2, 1), "deep": (8, 4, 1)}
    for (target, role), runs in frame[frame["role"] != "proxy"].groupby(["target", "role"]):
        specs = [made[run] for run in runs["run_id"]]
        is_main, is_default = target in ("base", "large"), str(role).startswith("default")
        own = {(spec.width, spec.hp("depth"), spec.hp("heads"), spec.base_width, spec.hp("tuned")) for spec in specs}
        assert own == {(*sizes[str(target)], 8, 5 * is_main)} and [spec.seed for spec in specs] == [0, 1, 2]
        assert {spec.parametrization for spec in specs} == {"mup" if role == "mutransfer" else "sp"}
        assert (runs["sst2_scratch"].notna() == (is_main and role in ("default", "mutransfer"))).all()
        assert {(spec.log2_lr == -11, spec.hp("warm_up")) for spec in specs} == {(is_default, 5 * is_default)}
    pool = [made[run] for run in part(frame, "proxy")["run_id"]]
    assert {(spec.steps, spec.seed, spec.hp("tuned"), spec.parametrization) for spec in pool} == {(50, 0, 0, "mup")}


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (search, {"specs": [spec for spec in SPECS if spec.width == 8]}, "two widths"),
        (search, {"space": {}}, "declares no search space"),
        (search, {"space": {"beta": Grid((0.9, 0.95))}}, "unknown hyperparameter 'beta'"),
        (repeated, {"search": 13}, "on the proxy looks at 13 samples of a pool of 12"),
        (repeated, {"flops": lambda spec: float(spec.steps)}, "on the target looks at 9 samples of a pool of 6"),
        (transfer, {"proxy": Model(width=16)}, "width 16 and µP's base width is 8"),
        (transfer, {"space": {"heads": Grid((1,))}}, "the space has heads, which a target of Table 6 has of its own"),
        (transfer, {"targets": {"base": replace(TARGETS["base"], scored={"tunde": 1})}}, "Did you mean 'tuned'"),
        (transfer, {"default": {"lg2_lr": 1}}, "Did you mean 'log2_lr'"),
        (transfer, {"targets": {"wide": Model(width=16)}}, "no target that is wider and deeper"),
        (transfer, {"targets": {"same": Model(width=8)}}, "'same' has the proxy's width and is no deeper"),
        (transfer, {"targets": {"x": Model(width=8, hps={"depth": 4, "heads": 2})}}, "proxy's width and changes heads"),
    ],
)
def test_what_cannot_be_planned_is_refused(make: Callable[..., Algorithm], changes: dict[str, Any], words: str) -> None:
    """Before anything runs."""
    with pytest.raises(UserError, match=words):
        make(**changes)
