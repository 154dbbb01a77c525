"""The experiment `bert`: its models and groups, a run with fine-tuning, and its commands from text to table."""

import math
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from experiments.bert import experiment as bert
from experiments.bert.experiment import EXPERIMENT
from experiments.bert.runs import config, model_of, probe, run, scored
from mutransfer.data.standins.grammar import stories_dataset
from mutransfer.designs.design import Bench
from mutransfer.designs.space import put
from tests.here import command
from tests.small import FINE, stories


@pytest.fixture
def data():
    return stories()


def spec(data, **changes):
    return put(EXPERIMENT.specs(data, scale="smoke", variant="pre_ln", widths=(16, 64))[0], {"steps": 4, **changes})


def rates(groups):
    return {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_sp_is_mup_at_the_base_width(data):
    """Same weights, same rates, bit for bit; at four times the width neither."""
    for width, is_equal in ((16, True), (64, False)):
        (sp, sp_groups), (mup, mup_groups) = (
            model_of(spec(data, width=width, parametrization=name)) for name in ("sp", "mup")
        )
        names = [name for name, _ in sp.named_parameters()]
        ours, its = dict(sp.named_parameters()), dict(mup.named_parameters())
        same = [rates(sp_groups)[id(ours[n])] == rates(mup_groups)[id(its[n])] for n in names]
        assert all(same) == is_equal and any(same)
        tokens = torch.randint(5, 300, (2, 8), generator=torch.Generator().manual_seed(0))
        assert torch.equal(sp(tokens)[0], mup(tokens)[0]) == is_equal


def test_every_multiplier_reaches_its_tensors_and_no_other(data):
    """App. F.3's learning rate of the embeddings, and the multipliers of gains and biases; those two do not decay."""

    def found(**changes):
        model, groups = model_of(spec(data, **changes))
        return {name: rates(groups)[id(p)] for name, p in model.named_parameters()}

    plain = found()
    kinds = {
        "embed_lr": {n for n in plain if n.startswith(("stack.embed", "stack.position", "stack.segment"))},
        "gain_mult": {n for n in plain if n.endswith("norm.weight")},
        "bias_mult": {n for n in plain if n.endswith("bias")},
    }
    assert all(kinds.values()) and not set.intersection(*kinds.values())
    log2_lr = spec(data).log2_lr
    for name, value in (("embed_lr", 3 * 2.0**log2_lr), ("gain_mult", 3.0), ("bias_mult", 3.0)):
        changed = {n for n, rate in found(**{name: value}).items() if rate != plain[n]}
        assert changed == kinds[name], name
        assert all(math.isclose(found(**{name: value})[n][0], 3 * plain[n][0]) for n in changed)
    for name, (_, decay) in plain.items():
        assert (decay == 0) == (name in kinds["gain_mult"] | kinds["bias_mult"]), name


def test_the_base_has_the_prototypes_shape():
    """µP's base of a target: the prototype's width, d_ffn and heads, and the target's depth."""
    data = stories_dataset(pieces=300, tasks={})
    bench = Bench(experiment=EXPERIMENT, dataset=data, scale="paper", variant="pre_ln")
    plan = bert.TABLE_6.algorithm(bench)
    for label, (width, d_ffn, heads, depth) in {"base": (768, 3072, 12, 12), "large": (1024, 4096, 16, 24)}.items():
        target = plan.model(label)
        own, base = config(target, width), config(target, 256, is_base=True)
        assert (own.width, own.d_ffn, own.heads, own.depth) == (width, d_ffn, heads, depth)
        assert (base.width, base.d_ffn, base.heads, base.depth) == (256, 256, 8, depth)
        # 1/d: sqrt(32) / 64 of the prototype's d_head 32
        assert own.logit_scale == pytest.approx(32**0.5 / 64)
    proxy = config(plan.model("proxy"), 256)
    assert (proxy.depth, proxy.d_ffn, proxy.heads, proxy.head_size) == (10, 256, 8, 32)
    assert plan.model("proxy").steps * 10 == plan.model("base").steps == 10**6


def test_a_run_scores_the_trained_and_the_untrained_encoder(data):
    """Deterministic, without a mark on the encoder that it fine-tunes; without ``finetuned`` there are no scores."""
    tuned = spec(data, **FINE)
    record = run(tuned, data)
    assert set(record.scores) == {"stories", "stories_scratch"} and all(0 <= x <= 100 for x in record.scores.values())
    again = run(tuned, data)
    assert (again.scores, again.train_loss, again.test_loss) == (record.scores, record.train_loss, record.test_loss)
    assert set(run(spec(data, **{**FINE, "scratch": 0}), data).scores) == {"stories"}
    assert set(run(spec(data, **{**FINE, "tasks": "qqp+stories"}), data).scores) == {*record.scores}  # no qqp here
    plain = run(probe(tuned), data)  # what the machine is measured with: the training alone
    assert plain.scores == {} and plain.test_loss == record.test_loss
    model, _ = model_of(tuned)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    assert scored(tuned, model, data, "stories", "cpu") == record.scores["stories_scratch"]
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_commands_from_text_to_table(smoke, tmp_path, capsys):
    """The sweep with Table 6 behind it, and the figures of pretraining and depth; the stand-in is named in all."""
    out = shutil.copytree(smoke("bert"), tmp_path / "out")
    assert "of one training of base" in (out / "printed.txt").read_text()
    for more in (["--figure", "pretraining", "--seeds", "3"], ["--figure", "depth"]):
        assert command("bert", "--scale", "smoke", "--out", out, *more) == 0
    assert "does pretraining matter" in capsys.readouterr().out
    folder = out / "figures" / "bert"
    for part in (".", "table_6", "figure_pretraining", "figure_depth"):
        assert "STAND-IN" in (folder / part / "table.md").read_text(), part
    runs = pd.read_csv(folder / "figure_pretraining" / "runs.csv")
    assert len(runs) == 6 and {"stories", "stories_scratch"} <= set(runs.columns)
    text = (folder / "figure_pretraining" / "table.md").read_text()
    mean = runs[runs["width"] == 32]["stories"].mean()
    assert (
        "## Does pretraining matter?" in text and f"| 32 | 3 | stories (synthetic), accuracy (%) | {mean:.2f}" in text
    )


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_the_pretraining_figure_promises_scores_of_the_tasks_it_is_fine_tuned_on_only(scale):
    """What it promises and the runs table lacks cannot be drawn."""
    figure = EXPERIMENT.output("pretraining")
    every = SimpleNamespace(tasks=dict.fromkeys(bert.SCORES))
    assert set(figure.facts(every, scale)["scores"]) == set(figure.template(scale)["tasks"].split("+"))
