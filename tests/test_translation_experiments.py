"""iwslt14 and wmt14: fairseq's recipe as App. F.1 and F.2 use it, and both through the command line in seconds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from data_scripts import iwslt14 as iwslt14_script
from data_scripts import multi30k
from experiments import fairseq_backend, translation
from experiments.iwslt14 import experiment as iwslt14
from experiments.wmt14 import experiment as wmt14
from mutransfer import cli
from mutransfer.data.pairs import PairDataset
from mutransfer.designs.design import Bench
from mutransfer.designs.grid import LrSweep
from mutransfer.designs.space import put as change
from mutransfer.errors import UserError
from mutransfer.training.spec import RunRecord, RunSpec
from tests.corpus_files import ENGLISH, GERMAN, put
from tests.here import command
from tests.small import corpus, pairs

IWSLT, WMT = iwslt14.EXPERIMENT, wmt14.EXPERIMENT


@pytest.fixture
def data() -> PairDataset:
    return pairs("de", "en")


def spec(experiment, data, scale="smoke", **changes) -> RunSpec:
    (variant,) = experiment.variants
    return change(experiment.specs(data, scale=scale, variant=variant)[0], changes)


def cells(number: str, data: PairDataset):
    """(panel, x, line, run) of one of iwslt14's figures."""
    bench = Bench(experiment=IWSLT, dataset=data, scale="smoke", variant="post_ln", seeds=1)
    return IWSLT.output(number).cells(bench)


def test_the_published_sizes(data: PairDataset) -> None:
    """App. F.1 and F.2: 1x and 0.25x, d_ffn, heads and d_k, and the parameters that the paper rounds to.

    F.1's vocabularies are two, 8,848 and 6,632; ours is one for both, so the middle of them.
    """
    published = [
        (IWSLT, 512, [6, 4, 128, 1024], 39.47),
        (IWSLT, 128, [6, 4, 32, 256], 3.97),
        (WMT, 1024, [6, 16, 64, 4096], 211),
        (WMT, 256, [6, 4, 64, 256], 15),
    ]
    for experiment, width, shape, millions in published:
        is_iwslt = experiment is IWSLT
        sized = spec(experiment, data, "paper", width=width, vocab=7740 if is_iwslt else 32_768)
        assert translation.parameters(sized) / 1e6 == pytest.approx(millions, rel=0.02)
        c = translation.config(change(sized, {"base_width": width // 4} if is_iwslt else {}), width)
        assert [c.depth, c.heads, c.head_size, c.d_ffn] == shape


def test_sp_is_fairseqs_and_mup_equals_it_at_the_base(data: PairDataset) -> None:
    """At the base width weights, rates and losses are the same bits; at twice the width they are not."""
    found = {}
    for width in (16, 32):
        for name in ("sp", "mup"):
            run_spec = spec(IWSLT, data, width=width, parametrization=name, steps=4)
            model, groups = translation.model_of(run_spec)
            found[name, width] = translation.run(run_spec, data).loss_curve
            if name == "sp":  # N(0, 1/d_model), times sqrt(d_model)
                assert model.decoder.embed.weight.std().item() == pytest.approx(width**-0.5, rel=0.05)
                assert model.decoder.c.embed_mult == math.sqrt(width)
                assert len({group["lr"] for group in groups}) == 1
            else:
                assert model.decoder.embed.weight.std().item() == pytest.approx(16**-0.5, rel=0.05)
                assert model.decoder.c.embed_mult == 4
    assert found["sp", 16] == found["mup", 16]
    assert found["sp", 32] != found["mup", 32]


def test_d_ffn_is_a_width_in_mup(data: PairDataset) -> None:
    """Figure 12: the narrowest ratio is the base, at which SP and µP are one; the wide ratio has a lower rate."""
    rates = {}
    for _, _, ratio, run_spec in cells("12", data):
        model, groups = translation.model_of(run_spec)
        assert model.encoder.blocks[0].up.out_features == ratio * run_spec.width
        by_weight = {id(p): group["lr"] for group in groups for p in group["params"]}
        down = by_weight[id(model.encoder.blocks[0].down.weight)]
        rates[ratio] = down / 2.0**run_spec.log2_lr
    assert rates == pytest.approx({0.5: 1.0, 4.0: 1 / 8})


def test_a_least_d_k_widens_the_narrow_heads_only(data: PairDataset) -> None:
    """Figure 10: the right panel's narrow model has the wide one's d_k."""
    sizes = {(panel, n): translation.config(s, s.width).head_size for panel, _, n, s in cells("10", data)}
    assert sizes == {("d_k_1", 16): 4, ("d_k_1", 32): 8, ("d_k_8", 16): 8, ("d_k_8", 32): 8}


def test_a_scored_run_has_bleu_and_samples(data: PairDataset) -> None:
    """Of as many sentences as asked for; what comes back from JSON is the same. Without a beam there are none."""
    record = translation.run(spec(IWSLT, data, steps=2, beam=1, translated=6), data)
    assert set(record.scores) == {"bleu_valid", "bleu_test"} and all(0 <= x <= 100 for x in record.scores.values())
    assert [row[:2] for row in record.samples] == [
        *zip(data.sources("test")[:5], data.references("test")[:5], strict=True)
    ]
    assert "tok:13a" in record.provenance["bleu"]
    assert RunRecord.from_json(record.to_json()) == record
    assert translation.run(spec(IWSLT, data, steps=2), data).scores == {}
    pairs = data.pairs("train")  # of an epoch, the longer side of each pair counts, its end included
    longer = sum(max(len(a), len(b)) + 1 for a, b in zip(*pairs, strict=True))
    assert translation.examples(data, spec(IWSLT, data)) == longer


def test_the_data_that_is_there_is_chosen(tmp_path: Path, monkeypatch) -> None:
    """IWSLT14's own folder first, then Multi30k's; what is named is taken, and what is unknown refused."""
    monkeypatch.delenv("MUTRANSFER_DATA", raising=False)
    assert iwslt14.choose(tmp_path, None) is iwslt14_script.load
    put(tmp_path / multi30k.FOLDER, {"train.de": GERMAN[:2], "train.en": ENGLISH[:2]})
    assert iwslt14.choose(tmp_path, None) is multi30k.load
    assert iwslt14.choose(tmp_path, "iwslt14") is iwslt14_script.load
    (tmp_path / iwslt14_script.FOLDER).mkdir()
    assert iwslt14.choose(tmp_path, None) is iwslt14_script.load
    with pytest.raises(UserError, match="Did you mean 'multi30k'"):
        iwslt14.choose(tmp_path, "multi30")


def test_the_sweep_and_the_table_of_searches(smoke) -> None:
    """The published numbers stand beside ours, and every method has its runs."""
    folder = smoke("wmt14") / "figures" / "wmt14"
    assert {"lr_vs_loss.png", "learning_curves.png", "runs.csv"} <= {p.name for p in folder.iterdir()}
    provenance = json.loads((folder / "table_5" / "provenance.json").read_text())
    assert "of 128 tokens" in provenance["paper"]["differs"]
    table = (folder / "table_5" / "table.md").read_text()
    assert "26.42" in table and "25.94" in table  # Table 5
    frame = pd.read_csv(folder / "table_5" / "runs.csv")
    assert set(frame["role"]) == {"proxy", "direct_pool", "mutransfer", "naive", "direct", "default"}


def test_a_long_run_on_a_corpus_of_ones_own_is_scored_and_shown(tmp_path: Path, capsys) -> None:
    """BLEU by width, and sentences beside their references, from English to German of any files."""
    own = ["--corpus", corpus(tmp_path / "corpus"), "--languages", "en-de", "--pieces", 150, "--valid", "dev"]
    assert command("iwslt14", "--figure", "bleu", *own, "--scale", "smoke", "--out", tmp_path) == 0
    assert "best by validation BLEU: width" in capsys.readouterr().out
    folder = tmp_path / "figures" / "iwslt14" / "figure_bleu"
    source = json.loads((folder / "provenance.json").read_text())["data_source"]
    assert source == "parallel corpus corpus en-de, 60 training pairs, joint-bpe-150"
    table = (folder / "table.md").read_text()
    assert "## BLEU" in table and GERMAN[80] in table and ENGLISH[80] in table


def missing() -> None:
    raise UserError("fairseq is not installed: pip install it")


CORPUS = ["iwslt14", "--corpus", "corpus"]
BACKEND = ["--backend", "fairseq"]
MISTAKES = [
    (["cifar_mlp", "--corpus", "corpus"], "--corpus is for experiments on parallel text (iwslt14, wmt14)"),
    ([*CORPUS, "--dataset", "multi30k"], "leave --dataset multi30k out"),
    ([*CORPUS, "--languages", "fr-en"], "fr"),
    (["iwslt14", "--test", "x", "--dataset", "multi30k"], "name it too (--corpus DIR)"),
    (["iwslt14", "--backend", "fairsek"], "Did you mean 'fairseq'"),
    (["cifar_mlp", *BACKEND], "unknown backend of cifar_mlp"),
    (["iwslt14", *BACKEND], "fairseq is not installed: pip install it"),
    (["iwslt14", *BACKEND, "--figure", "6"], "is for the learning-rate sweep"),
    (["wmt14", *BACKEND, "--precision", "bfloat16"], "is for the learning-rate sweep"),
]


@pytest.mark.parametrize(("args", "words"), MISTAKES)
def test_what_is_said_of_a_corpus_and_a_backend_is_checked(tmp_path, monkeypatch, capsys, args, words) -> None:
    """In one line: another experiment, two names for the data, a folder without the language, no such backend."""
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "corpus")
    without = LrSweep(backends={"fairseq": missing})
    experiments = {e.name: replace(e, outputs=(without, *e.outputs[1:])) for e in (IWSLT, WMT)}
    experiments["cifar_mlp"] = cli.load_experiment("cifar_mlp")
    assert cli.main([*args, "--scale", "smoke", "--out", "."], load=experiments.__getitem__) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_run_by_fairseq_is_near_ours(data: PairDataset) -> None:
    """Another init and other batches: the losses of training and of validation are ours to a twentieth, in µP.

    The negative: those of a learning rate too low to learn much are not.
    """
    pytest.importorskip("fairseq")
    run_spec = spec(IWSLT, data, parametrization="mup", width=32, steps=40, batch=128, dropout=0.0, log2_lr=-6)
    by_fairseq = replace(run_spec, hps=(*run_spec.hps, ("backend", "fairseq")))
    ours, theirs = translation.run(run_spec, data), translation.run(by_fairseq, data)
    assert theirs.status == "finished" and theirs.steps_done == 40
    assert theirs.provenance["backend"].startswith("fairseq ")
    low = translation.run(replace(run_spec, log2_lr=-12), data)
    for loss in ("train_loss", "test_loss"):
        assert getattr(theirs, loss) == pytest.approx(getattr(ours, loss), rel=0.05)
        assert getattr(low, loss) > 1.1 * getattr(ours, loss)


def test_fairseqs_architecture_is_the_specs(data: PairDataset) -> None:
    """Sizes, the base in µP, and no multipliers in SP, where fairseq has none."""
    run_spec = spec(IWSLT, data, "cpu", parametrization="mup", width=128, output_mult=2.0)
    c, base = translation.config(run_spec, 128), translation.config(run_spec, 32, is_base=True)
    found = fairseq_backend.options(run_spec, c, base)
    assert {"--encoder-embed-dim=128", "--decoder-ffn-embed-dim=256", "--encoder-attention-heads=4"} <= {*found}
    assert {"--mup-base-width=32", "--mup-base-ffn=64", "--mup-alpha-output=2.0"} <= {*found}
    with pytest.raises(UserError, match="no multipliers"):
        fairseq_backend.options(replace(run_spec, parametrization="sp"), c, base)
