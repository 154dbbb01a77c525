"""The plug-in in fairseq's own training and generation, run in this process by `backend.run`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

pytest.importorskip("fairseq.tasks", reason="needs fairseq; see mutransfer.fairseq_mup")

from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.transformer import TransformerModel
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.tasks import FairseqTask
from fairseq_cli import generate
from fairseq_nets import VOCAB, build, sentences, shape
from fairseq_nets import options as architecture

from mutransfer import scaling_plan
from mutransfer.data.pairs import PairDataset
from mutransfer.errors import UserError
from mutransfer.fairseq_mup import USER_DIR, plugin
from mutransfer.fairseq_mup.backend import Result, arguments, run
from mutransfer.fairseq_mup.weights import read_checkpoint
from mutransfer.training.translation import translate

pytestmark = pytest.mark.filterwarnings("ignore")  # fairseq and hydra use what torch and hydra deprecate
IWSLT = "transformer_iwslt_de_en"
TIED = ("--share-decoder-input-output-embed",)
BASE = ("--mup-base-width", "16", "--mup-base-ffn", "32", "--mup-base-heads", "2")


def train(folder: Path, scratch: Path, arch: str, *arch_options: str, updates: int = 6, **more) -> Result:
    """A few updates; two of them warm up."""
    settings = {"lr": 0.01, "max_tokens": 300, "weight_decay": 0.01, "arch_options": arch_options, **more}
    found = run([*arguments(folder, scratch, arch=arch, updates=updates, **settings), "--warmup-updates", "2"])
    assert not found.reason
    return found


@pytest.mark.parametrize(("arch", "more"), [(IWSLT, TIED), (IWSLT, ()), ("transformer", ("--share-all-embeddings",))])
def test_at_the_base_it_is_fairseq(folder, tmp_path, arch, more):
    """The same losses, bit for bit, as the plain architecture with plain Adam; dropout 0.1, weight decay."""
    plain = train(folder, tmp_path, arch, *shape(16, *more))
    mup = train(folder, tmp_path, f"mup_{arch}", *shape(16, *more, *BASE))
    assert mup == plain and len(plain.losses) == 6
    assert plain.losses[-1] < plain.losses[0] and plain.valid_loss


def test_the_published_shapes_are_the_bases():
    """Without --mup-base-*, an architecture of fairseq's is its own base; --mup-base-width alone may be given."""
    big, wide = "transformer_vaswani_wmt_en_de_big", {"encoder_embed_dim": 2048, "mup_base_width": 512}
    for arch, given, base in ((big, wide, (512, 4096, 16)), (IWSLT, {}, (512, 1024, 4))):
        found, plain = vars(architecture(f"mup_{arch}", **given)), vars(architecture(arch, **given))
        assert tuple(found[f"mup_base_{name}"] for name in ("width", "ffn", "heads")) == base
        assert plain.items() - {("arch", arch)} <= found.items()


def test_at_four_times_the_base_the_plan_is_in_force(folder, tmp_path):
    """Learning rate, weight decay and eps of each tensor at every update of the schedule are the plan's; Adam's first
    step is as long as its learning rate."""
    updates, factors = [], {}

    def step(task, optimizer, model, update_num):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        optimizer.step()
        rate = 0.005 + update_num * 0.0025 if update_num < 2 else 0.01 * (2 / update_num) ** 0.5
        assert optimizer.get_lr() == pytest.approx(rate, rel=1e-12)
        for name, p in model.named_parameters():
            group, scale = groups[id(p)], model.plan[name]
            factors[name] = scale.lr
            assert group["lr"] == pytest.approx(rate * scale.lr, rel=1e-12), name
            assert group["weight_decay"] == pytest.approx(0.01 * scale.weight_decay), name
            assert group["eps"] == pytest.approx(1e-8 * scale.eps), name
            if not update_num and "k_proj.bias" not in name:  # whose gradient is zero but for rounding
                assert float((p - before[name]).abs().max()) == pytest.approx(group["lr"], rel=0.02), name
        updates.append(update_num)

    with mock.patch.object(FairseqTask, "optimizer_step", step):
        train(folder, tmp_path, f"mup_{IWSLT}", *shape(64, *TIED, *BASE, "--warmup-init-lr", "0.005"))
    assert updates == [*range(6)]
    assert factors["encoder.layers.0.fc1.weight"] == factors["decoder.layers.0.encoder_attn.v_proj.weight"] == 1 / 4
    assert factors["decoder.embed_tokens.weight"] == factors["encoder.layers.0.fc1.bias"] == 1.0


def test_the_model_is_the_plans():
    """Init, multiplier and scales by the core's own plan; fairseq's names; no draw that fairseq would miss."""
    small = {"mup_base_width": 16, "mup_base_ffn": 32, "share_decoder_input_output_embed": True}
    found = architecture(f"mup_{IWSLT}", 64, **small, mup_alpha_output=3.0)
    plain_options = architecture(IWSLT, 64, share_decoder_input_output_embed=True)
    torch.manual_seed(0)
    model, after = build(found), torch.rand(())
    torch.manual_seed(0)
    plain = build(plain_options)
    assert torch.equal(torch.rand(()), after)
    assert list(model.state_dict()) == list(plain.state_dict())
    base = build(architecture(IWSLT, 16, share_decoder_input_output_embed=True))
    assert type(base) is TransformerModel and model.plan == scaling_plan(base, model, optimizer="adam")
    weights = dict(plain.named_parameters())
    for name, p in model.named_parameters():
        # fairseq's own std of an embedding falls as 1/sqrt(width), that of a matrix too
        missing = 2.0 if name.endswith("embed_tokens.weight") or (p.ndim == 1 and weights[name].std() > 0) else 1.0
        torch.testing.assert_close(p.detach(), missing * weights[name].detach(), msg=name)
    assert model.decoder.output_mult == 3 / 4 and model.encoder.embed_scale == 4.0
    tokens = torch.stack(sentences([4, 4], 0))
    features, _ = model(tokens, torch.tensor([4, 4]), tokens, features_only=True)
    logits, _ = model(tokens, torch.tensor([4, 4]), tokens)
    torch.testing.assert_close(logits, features @ model.decoder.embed_tokens.weight.T * 0.75)


def test_saved_and_restored(folder, tmp_path):
    """Stopped after three updates and started again: the losses that it would have had."""
    options_ = shape(32, *TIED, *BASE)
    whole = train(folder, tmp_path / "whole", f"mup_{IWSLT}", *options_)
    first = train(folder, tmp_path / "parts", f"mup_{IWSLT}", *options_, updates=3, save=True)
    again = train(folder, tmp_path / "parts", f"mup_{IWSLT}", *options_)
    assert first.losses + again.losses == whole.losses
    assert again.valid_loss == whole.valid_loss
    with pytest.raises(UserError, match="other learning rates for each parameter"):
        train(folder, tmp_path / "parts", f"mup_{IWSLT}", *options_, "--mup-base-width", "32", "--mup-base-ffn", "64")
    # a setting that is given anew is the base's
    settings = ("--optimizer-overrides", "{'weight_decay': 0.5}")
    with mock.patch.object(plugin.MupAdam, "_scale", autospec=True, side_effect=plugin.MupAdam._scale) as scale:
        train(folder, tmp_path / "parts", f"mup_{IWSLT}", *options_, *settings, updates=4)
    groups = scale.call_args_list[-1].args[0].param_groups
    assert {g["weight_decay"] for g in groups} == {0.5, 1.0}


def test_generates_what_our_beam_search_finds(folder, dataset: PairDataset, tmp_path, capsys):
    """fairseq-generate on a checkpoint in µP, whose attention takes the other path; and ours with its weights."""
    more = (*TIED, *BASE, "--mup-alpha-output", "2", "--mup-alpha-attn", "3")
    train(folder, tmp_path, f"mup_{IWSLT}", *shape(32, *more, "--dropout=0"), updates=150, save=True)
    checkpoint = str(tmp_path / "checkpoint_last.pt")
    command = [str(folder), "--user-dir", USER_DIR, "--path", checkpoint, "--beam", "3", "--cpu", "--num-workers", "0"]
    # else fairseq leaves out the last batch, here the only one, unless it has a multiple of 8 sentences
    command += ["--required-batch-size-multiple", "1", "--max-len-a", "0", "--max-len-b", "20"]
    capsys.readouterr()
    args = options.parse_args_and_arch(options.get_generation_parser(), command)
    generate.main(convert_namespace_to_omegaconf(args))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.startswith("H-")]
    rows.sort(key=lambda row: int(row[0][2:]))
    ours = read_checkpoint(checkpoint)
    texts = [row[2].replace(" ", "").replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip() for row in rows]
    expected = [text.strip() for text in translate(ours, dataset, beam=3, max_length=(0.0, 20.0))]
    assert texts == expected and len(texts) == 5 and any(texts)
    (model,), cfg, _ = checkpoint_utils.load_model_ensemble_and_task([checkpoint])
    assert ours.decoder.c.attention_scale == model.encoder.layers[0].self_attn.scaling
    assert ours.readout.output_mult == model.decoder.output_mult == 1.0 and cfg.model.mup_alpha_attn == 3.0


REFUSED = {
    "use --optimizer mup_adam": (f"mup_{IWSLT}", "--optimizer", "adam"),
    "without a plan": (IWSLT, "--optimizer", "mup_adam"),
    "no µP rule for --adaptive-softmax-cutoff": (f"mup_{IWSLT}", "--adaptive-softmax-cutoff", "50"),
    "--encoder-embed-dim 16 and --decoder-embed-dim 32 differ": (f"mup_{IWSLT}", "--decoder-embed-dim", "32"),
    "heads divide the width": (f"mup_{IWSLT}", "--mup-base-heads", "3"),
}


@pytest.mark.parametrize(("says", "asked"), REFUSED.items(), ids=REFUSED)
def test_no_silent_sp(folder, tmp_path, says, asked):
    """What would train at other learning rates than the plan's, or has no rule, does not train."""
    with pytest.raises(UserError, match=says):
        train(folder, tmp_path, asked[0], *shape(16), *asked[1:])


def test_copies_for_mixed_precision():
    """Copies of parameters keep their factors; one flat copy of all cannot have them, and is refused."""
    model = build(architecture(f"mup_{IWSLT}", 32, mup_base_width=16, mup_base_ffn=32))
    copies = FP16Optimizer.build_fp32_params(None, list(model.parameters()), flatten=False)
    groups = plugin._groups(copies)
    assert sum(len(g["params"]) for g in groups) == len(copies) and {g["mup_lr"] for g in groups} == {1.0, 0.5}
    with pytest.raises(UserError, match="--fp16-no-flatten-grads"):
        plugin._groups([torch.nn.Parameter(torch.zeros(VOCAB))])


def test_the_folder_may_be_imported_twice():
    """By fairseq under its own name, and as a part of this package: one registration."""
    from fairseq import utils

    utils.import_user_module(argparse.Namespace(user_dir=USER_DIR))
    assert sys.modules["fairseq_mup"].USER_DIR == USER_DIR
