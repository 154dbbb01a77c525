"""Algorithm 1: who wins, what is copied, what it costs; on losses given by a formula, so that all is known."""

import dataclasses
import json
import math

import pytest
import torch

from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.designs.search import Grid, LogUniform, Search, assign
from mutransfer.designs.tune import loss_at, tune
from mutransfer.errors import UserError
from mutransfer.results.selection import MOST_CUTS
from mutransfer.results.tuning import SEARCH, SearchReport
from mutransfer.runs.table import write_csv
from mutransfer.training.spec import CURVE_POINTS, RunRecord
from tests.runs import tiny


@pytest.fixture(scope="module")
def data():
    return tiny.dataset()


SPACE = {"lr": LogUniform(-9, -2), "output_mult": LogUniform(2, 8)}


@pytest.fixture
def specs(data):
    """A grid over three widths in SP and µP, with one more hyperparameter that is not tuned."""
    hps = (("loss", "xent"), ("output_mult", 32))
    return [
        tiny.spec(data, parametrization=p, width=w, seed=seed, steps=640, hps=hps)
        for p in ("sp", "mup")
        for w in (16, 8, 32)
        for seed in (1, 0)
    ]


def test_hyperparameters_go_where_the_runner_reads_them(specs):
    """lr is a power of two in the spec, to nine digits; a name that the experiment lacks is refused, not ignored."""
    spec = assign(specs[0], {"lr": 2**-5.25, "output_mult": 8.0, "momentum": 0.5})
    assert (spec.log2_lr, spec.momentum, spec.hp("output_mult"), spec.hp("loss")) == (-5.25, 0.5, 8.0, "xent")
    with pytest.raises(UserError, match=r"'ouput_mult'\. Did you mean 'output_mult'"):
        assign(specs[0], {"ouput_mult": 8.0})
    with pytest.raises(UserError, match="lr is 0"):
        assign(specs[0], {"lr": 0})


def test_the_proxy_is_the_narrowest_and_the_target_the_widest(specs):
    """In µP, with the first seed; a search without a second width, or without a space, is refused before it runs."""
    search = Search.plan(specs, SPACE, samples=5, seed=0)
    for spec, width in ((search.proxy, 8), (search.target, 32)):
        assert (spec.width, spec.parametrization, spec.seed) == (width, "mup", 0)
    with pytest.raises(UserError, match="two widths"):
        Search.plan([s for s in specs if s.width == 8], SPACE, samples=5, seed=0)
    with pytest.raises(UserError, match="declares no search space"):
        Search.plan(specs, {}, samples=5, seed=0)
    with pytest.raises(UserError, match="unknown hyperparameter 'beta'"):
        Search.plan(specs, {"beta": Grid((0.9, 0.95))}, samples=2, seed=0)


def test_cifar_mlp_declares_what_the_paper_tuned(data):
    """Around the authors' multipliers (2^-8 and 32), so that a search could find them; all variants have a plan."""
    space = EXPERIMENT.variants["relu_xent"].search
    assert {name: str(d) for name, d in space.items()} == {
        "lr": "2^U(-9, 0)",
        "input_mult": "2^U(-13, -3)",
        "output_mult": "2^U(0, 10)",
    }
    for variant, v in EXPERIMENT.variants.items():
        specs = EXPERIMENT.specs(data, scale="cpu", variant=variant)
        search = Search.plan(specs, v.search, samples=EXPERIMENT.scales["cpu"].samples, seed=0)
        assert len(search.samples) == 64 and (search.proxy.width, search.target.width) == (64, 1024)
        assert search.line(EXPERIMENT.flops).startswith("tuning: 64 samples of input_mult 2^U(")


def flops(spec):
    return spec.steps * spec.width**2.0


def quality(spec):
    """Lower is better, whatever the width: the optimum is lr = 2^-5, output_mult = 2^5."""
    return 1 + 0.05 * (spec.log2_lr + 5) ** 2 + 0.05 * (math.log2(spec.hp("output_mult")) - 5) ** 2


class Trainer:
    """Trains by formula and keeps what it did, as a sweep over a store does."""

    def __init__(self, status=lambda spec: "finished", limit=math.inf):
        self.status, self.limit = status, limit
        self.store, self.made = {}, []

    def __call__(self, specs):
        for spec in specs:
            if spec.run_id not in self.store:
                if len(self.made) == self.limit:
                    raise KeyboardInterrupt
                self.store[spec.run_id] = self.record(spec)
                self.made.append(spec.run_id)
        return (self.store[run_id] for run_id in {spec.run_id: spec for spec in specs})

    def record(self, spec):
        status = self.status(spec)
        if status == "failed":
            return RunRecord.failed(spec, "out of memory")
        done = spec.steps if status == "finished" else 25
        points = min(CURVE_POINTS, spec.steps)
        curve = tuple(quality(spec) + 1 - (i + 1) / points for i in range(points * done // spec.steps))
        loss = quality(spec) if status == "finished" else math.inf
        return RunRecord(spec=spec, status=status, train_loss=loss, steps_done=done, loss_curve=curve)

    def get(self, run_ids):
        return {run_id: self.store[run_id] for run_id in run_ids if run_id in self.store}


def plan(specs, samples=16):
    return Search.plan(specs, SPACE, samples=samples, seed=0)


def test_the_winner_is_copied_as_it_is(specs):
    """Zero-shot transfer: the target differs from the winner's proxy run in its width and in nothing else."""
    search, train = plan(specs), Trainer()
    frame, records = tune(search, train, flops)
    report = SearchReport(frame, is_halved=False)
    *proxies, target = records
    best = min(proxies, key=lambda r: r.train_loss)
    assert target.spec == dataclasses.replace(best.spec, width=32) and target.spec.parametrization == "mup"
    assert best.spec in search.runs([report.winner["sample"]])
    assert len(train.made) == 17
    assert report.cost_fraction == pytest.approx(16 * (8 / 32) ** 2)


def test_diverged_and_failed_runs_do_not_win(specs):
    """Where the best learning rates diverge or fail, the best of the others is copied; a failed run costs nothing."""
    search = plan(specs)
    order = sorted(range(16), key=lambda i: quality(search.runs([i])[0]))
    bad = {search.runs([i])[0].run_id: status for i, status in zip(order, ("diverged", "failed"), strict=False)}
    frame, records = tune(search, Trainer(lambda spec: bad.get(spec.run_id, "finished")), flops)
    report = SearchReport(frame, is_halved=False)
    assert report.winner["sample"] == order[2]
    assert records[-1].spec == search.copied(order[2])
    assert report.steps == 14 * 640 + 25  # the failed run has no steps, the diverged one those that it lived
    assert report.ranked["sample"].tolist()[:3] == order[2:5]


def test_of_a_tie_the_first_wins(specs):
    """So that a repeated search copies the same."""
    search = plan(specs)
    same = Trainer()
    same.record = lambda spec: RunRecord(spec=spec, status="finished", train_loss=2.0, steps_done=spec.steps)
    assert tune(search, same, flops)[1][-1].spec == search.copied(0)


def test_a_search_in_which_nothing_trains_says_so(specs):
    """No target is trained with hyperparameters that diverge."""
    train = Trainer(lambda spec: "diverged" if spec.log2_lr > -8 else "failed")
    with pytest.raises(UserError, match=r"no sample of 16 has trained to the end at width 8 \(mup\), \d+ diverged, "):
        tune(plan(specs), train, flops)
    assert len(train.made) == 16


def test_an_interrupted_search_makes_no_run_twice(specs):
    """Killed in the middle, the same call goes on, and its table is that of an uninterrupted one."""
    whole, _ = tune(plan(specs), Trainer(), flops, halving=True, compare=True)
    train = Trainer()
    for limit in (3, 18, 24):
        train.limit = limit
        with pytest.raises(KeyboardInterrupt):
            tune(plan(specs), train, flops, halving=True, compare=True)
    train.limit = math.inf
    frame, _ = tune(plan(specs), train, flops, halving=True, compare=True)
    assert frame.equals(whole)
    assert len(train.made) == len(set(train.made)) == 2 * (16 + 4 + 1 + 1)


def test_naive_transfer_is_the_same_search_in_sp(specs):
    """The comparison of Tables 4 to 6: same samples, tuned and copied in SP; and it does not change µP's result."""
    search = plan(specs)
    with_sp, _ = tune(search, Trainer(), flops, compare=True)
    without, _ = tune(search, Trainer(), flops)
    report, alone = SearchReport(with_sp, is_halved=False), SearchReport(without, is_halved=False)
    assert report.naive is not None and report.naive.parametrization == "sp" and report.naive.width == 32
    assert report.naive.log2_lr == report.target.log2_lr  # the formula knows no parametrization
    assert alone.naive is None and alone.cost_fraction == report.cost_fraction
    assert alone.runs.equals(with_sp[with_sp["parametrization"] == "mup"].reset_index(drop=True))


def test_halving_trains_the_best_longer(specs):
    """16 x 40, 4 x 160, 1 x 640 steps, each from scratch, then the target; 3/16 of the full search."""
    search, train = plan(specs), Trainer()
    frame, records = tune(search, train, flops, halving=True, known=train.get)
    order = sorted(range(16), key=lambda i: quality(search.runs([i])[0]))
    assert [(r.spec.steps, r.spec.width) for r in records] == [(40, 8)] * 16 + [(160, 8)] * 4 + [(640, 8), (640, 32)]
    assert [r.spec for r in records[16:]] == [
        *search.runs(order[:4], 160),
        *search.runs(order[:1]),
        search.copied(order[0]),
    ]
    report = SearchReport(frame, is_halved=True)
    assert report.halving[1] == pytest.approx(3 / 16)
    assert report.agreement is None  # its full search was never made


def test_halving_and_the_full_search_meet_in_the_store(specs):
    """In either order: the rungs are compared with the full search's runs, and what both need is trained once."""
    search, train = plan(specs), Trainer()
    full, _ = tune(search, train, flops)
    halved, _ = tune(search, train, flops, halving=True, known=train.get)
    assert len(train.made) == 16 + 1 + 16 + 4  # the last rung and the target were there
    report = SearchReport(halved, is_halved=True)
    assert report.agreement.same_winner and report.agreement.regret == 0
    assert report.agreement.rank_correlations[:2] == pytest.approx((1, 1))
    told = SearchReport(full, is_halved=False)  # from the curves alone
    assert [r.ranking for r in told.halving[0]] == [r.ranking for r in report.halving[0]]
    assert told.halving[1] == report.halving[1] == pytest.approx(3 / 16)


def test_halving_needs_room(specs):
    """Three samples cannot be cut to a quarter: refused before anything runs."""
    train = Trainer()
    with pytest.raises(UserError, match="at least 4 samples and 100 steps, here are 3 and 640"):
        tune(plan(specs, samples=3), train, flops, halving=True)
    assert not train.made


def test_a_shorter_run_is_the_first_part_of_the_longer(data):
    """What lets a loss curve tell the losses of a rung, at a constant learning rate: step by step the same losses."""

    def losses(steps):
        torch.manual_seed(0)  # as a worker does before each run
        return tiny.run(tiny.spec(data, steps=steps), data)

    short, long = losses(10), losses(40)
    assert short.loss_curve == long.loss_curve[:10]
    assert short.loss_curve[-1] == short.train_loss == loss_at(long, 10)


def test_a_curve_never_looks_ahead(data):
    """Only the chunks that lie wholly before the cut count; a run that had diverged by then counts as infinite."""
    record = RunRecord(
        spec=tiny.spec(data, steps=640), status="finished", train_loss=0, steps_done=640, loss_curve=tuple(range(50))
    )
    assert loss_at(record, 40) == 2  # chunks end at steps 12, 25, 38, 51
    assert loss_at(record, 38) == 2 and loss_at(record, 37) == 1
    assert math.isnan(loss_at(record, 11))
    diverged = dataclasses.replace(record, status="diverged", steps_done=100, loss_curve=tuple(range(8)))
    assert loss_at(diverged, 160) == math.inf and loss_at(diverged, 40) == 2
    assert 4**MOST_CUTS <= CURVE_POINTS  # so every rung has a point


def test_the_table_is_redrawn_from_what_is_committed(specs, tmp_path):
    """runs.csv and provenance.json are all that table.md needs: winner, hyperparameters, costs, the stand-in named."""
    search = plan(specs)
    frame, _ = tune(search, Trainer(lambda s: "diverged" if s.log2_lr > -4 else "finished"), flops, compare=True)
    write_csv(frame, tmp_path / "runs.csv")
    assert list(frame["output_mult"][:16]) == [s["output_mult"] for s in search.samples]
    provenance = dict(experiment="tiny", title="Tiny", scale="smoke", data_source="noise", data_is_real=False)
    provenance |= dict(y_label="training loss", search={**search.facts, "is_halved": False})
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    text, (path,) = SEARCH.redraw(tmp_path)
    table, report = path.read_text(), SearchReport(frame, is_halved=False)
    winner = search.samples[report.winner["sample"]]
    assert f"lr {winner['lr']:.6g}, output_mult {winner['output_mult']:.6g}: training loss" in text
    diverged = sum(spec.log2_lr > -4 for spec in search.runs(range(16)))
    assert f"; {diverged} diverged, after {25 * diverged} of their {640 * diverged} steps" in text and diverged > 1
    cost = 100 * (640 * 16 - 615 * diverged) / 640 / 16  # a step of width 8 costs 1/16 of one of width 32
    assert f"tuning cost: {cost:.3g}% of the target's training" in text and "naive transfer" in text
    assert "STAND-IN DATA" in table and "gives 6.5%" in table and text.splitlines()[0] in table
    assert "successive halving (16 x 40, 4 x 160, 1 x 640 steps) would have cost" in text
    assert SEARCH.redraw(tmp_path)[1] == [path] and path.read_text() == table
    write_csv(frame[frame["sample"] != 3], tmp_path / "runs.csv")
    with pytest.raises(UserError, match="lacks 1 of the 16 samples, first 3"):
        SEARCH.redraw(tmp_path)
