"""Search spaces: every one of the paper is data, and sample i is the same in every search of one seed."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import kstest

from experiments.bert.experiment import TABLE_6
from experiments.cifar_resnet.imagenet import IMAGENET
from experiments.gpt3_proxy.experiment import EXPERIMENT as GPT3
from experiments.iwslt14.experiment import TABLE_4
from mutransfer.designs.space import Grid, LogUniform, assign, draw, put
from mutransfer.errors import UserError
from tests.runs import tiny

SPACES = {  # App. F and G, as the experiments declare them
    "IWSLT14": TABLE_4.numbers["paper"].space,
    "BERT": TABLE_6.numbers["paper"].space,
    "GPT-3": GPT3.variant(None)[1].search,
    "ImageNet": IMAGENET.variants["wide_resnet50"].search,
}
SIZES = {"IWSLT14": 12 * 16 * 12, "BERT": 16_875, "GPT-3": math.inf, "ImageNet": 10 * 10 * 8 * 5}


@pytest.mark.parametrize("name", SPACES)
def test_the_papers_spaces_are_data(name):
    """As large as the paper says (of eight momenta three are 1 or more); sampling gives no point of a grid twice."""
    space = SPACES[name]
    assert math.prod(d.size for d in space.values()) == SIZES[name]
    samples = draw(space, 200, seed=1)
    assert len({tuple(s.values()) for s in samples}) == 200
    for sample in samples:
        assert set(sample) == set(space)
        for hp, d in space.items():
            assert sample[hp] in d.values if isinstance(d, Grid) else d.base**d.low <= sample[hp] <= d.base**d.high


@pytest.mark.parametrize("name", SPACES)
def test_more_samples_keep_the_earlier_ones(name):
    """Sample i is its own, so that a search can be enlarged; the order in which a space names its HPs is nothing."""
    space = SPACES[name]
    many = draw(space, 60, seed=0)
    assert draw(space, 20, seed=0) == many[:20]
    assert draw(dict(reversed(space.items())), 60, seed=0) == many
    assert draw(space, 60, seed=1) != many
    wider = draw({**space, "depth": LogUniform(-3, 0, base=10)}, 20, seed=0)  # leaves the other values alone
    assert name != "GPT-3" or [{k: v for k, v in s.items() if k in space} for s in wider] == many[:20]


def test_samples_are_log_uniform_and_independent():
    """Kolmogorov-Smirnov at the level 0.001; correlations below 3.3/sqrt(n); not uniform on a linear scale."""
    n, space = 2000, SPACES["GPT-3"]
    values = np.array([[sample[hp] for hp in space] for sample in draw(space, n, seed=0)])
    exponents = np.log(values) / np.log([d.base for d in space.values()])
    quantiles = (exponents - [d.low for d in space.values()]) / [d.high - d.low for d in space.values()]
    assert all(kstest(column, "uniform").pvalue > 0.001 for column in quantiles.T)
    assert np.abs(np.corrcoef(quantiles.T) - np.eye(len(space))).max() < 3.3 / n**0.5
    assert kstest(values[:, 0] / 1e-1, "uniform").pvalue < 1e-9


def test_a_finite_space_is_exhausted_and_no_more():
    """With as many samples as points, random search is grid search: each point once."""
    space = {"lr": Grid((0.1, 0.2, 0.4)), "output_mult": Grid((1, 2, 4, 8)), "schedule": Grid(("linear", "cosine"))}
    all_points = {*product((0.1, 0.2, 0.4), (1, 2, 4, 8), ("linear", "cosine"))}
    for count in (24, 1000):
        samples = draw(space, count, seed=3)
        assert len(samples) == 24
        assert {(s["lr"], s["output_mult"], s["schedule"]) for s in samples} == all_points
    assert draw(space, 23, seed=3) == samples[:23]


@pytest.mark.parametrize(
    "make", [lambda: LogUniform(-1, -4), lambda: LogUniform(0, 1, base=1), lambda: Grid(()), lambda: Grid((1, 2, 1.0))]
)
def test_no_space_is_refused(make):
    """A range upside down, base 1, an empty grid, a value twice."""
    with pytest.raises(UserError, match="expected"):
        make()


def test_settings_go_where_the_runner_reads_them():
    """Fields and hps; a sample's lr is a power of two in the spec, to nine digits. What a run lacks is refused."""
    spec = tiny.spec(tiny.dataset(), hps=(("loss", "xent"), ("output_mult", 32)))
    sampled = assign(spec, {"lr": 2**-5.25, "output_mult": 8.0, "momentum": 0.5})
    own = sampled.hp("output_mult"), sampled.hp("loss")
    assert (sampled.log2_lr, sampled.momentum, *own) == (-5.25, 0.5, 8.0, "xent")
    changed = put(spec, {"steps": 7, "loss": "mse"})
    assert (changed.steps, changed.hp("loss"), changed.hp("output_mult")) == (7, "mse", 32)
    with pytest.raises(UserError, match=r"'ouput_mult'\. Did you mean 'output_mult'"):
        assign(spec, {"ouput_mult": 8.0})
    with pytest.raises(UserError, match="lr is 0"):
        assign(spec, {"lr": 0})
    for name in ("step", "hps", "lr"):
        with pytest.raises(UserError, match=f"'{name}'"):
            put(spec, {name: 7})
