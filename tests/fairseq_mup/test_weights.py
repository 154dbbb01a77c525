"""Weights between our model and fairseq's: equal logits, the same bits there and back, anything else refused."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch

pytest.importorskip("fairseq.tasks", reason="needs fairseq; see mutransfer.fairseq_mup")

from fairseq_nets import VOCAB, build, options, padded, sentences

from mutransfer import scaling_plan
from mutransfer.data.pairs import EOS
from mutransfer.errors import UserError
from mutransfer.fairseq_mup import plugin  # noqa: F401  (registers the architectures)
from mutransfer.fairseq_mup.weights import Base, config_of, from_fairseq, options_of, to_fairseq
from mutransfer.models.transformer import EncoderDecoder

IWSLT = {"arch": "transformer_iwslt_de_en", "share_decoder_input_output_embed": True}
SMALL = {"width": 32, **IWSLT}
BASE = {"mup_base_width": 16, "mup_base_ffn": 32, "mup_alpha_output": 2.0, "mup_alpha_attn": 3.0}
MUP = {**SMALL, **BASE, "arch": "mup_transformer_iwslt_de_en"}
BIG = {"arch": "transformer_vaswani_wmt_en_de_big", "share_all_embeddings": True}
CASES = {
    "iwslt": SMALL,
    "wmt": {"width": 32, **BIG, "encoder_attention_heads": 8, "decoder_attention_heads": 8},
    "untied": {"width": 32, "arch": "transformer"},
    "pre": {**SMALL, "encoder_normalize_before": True, "decoder_normalize_before": True, "activation_fn": "gelu"},
    "mup": MUP,
    "mup untied": {**MUP, "share_decoder_input_output_embed": False},
}


@torch.no_grad()
def logits(theirs, ours):
    """[R, V] of all target tokens, fairseq's with its sources padded on the left; and ours, padded on the right."""
    sources, targets = sentences([5, 9, 2], 0), sentences([4, 3, 7], 1)
    inputs = [torch.cat([torch.tensor([EOS]), row[:-1]]) for row in targets]
    size = torch.tensor([len(row) for row in sources])
    a, _ = theirs(padded(sources, left=True), size, padded(inputs))
    source = padded(sources)
    b = ours(source, padded(inputs), source == 1)
    real = torch.arange(a.shape[1]) < torch.tensor([[len(row)] for row in inputs])
    return a[real], b[real]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_logits_are_equal_and_the_bits_come_back(case):
    """From theirs to ours and, into a twin that fairseq builds with our options, back; every weight random."""
    torch.manual_seed(0)
    found = options(**{"encoder_layers": 2, "decoder_layers": 2, **case})
    theirs = build(found)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    ours, base = from_fairseq(theirs.state_dict(), found), Base.of(found)
    state, expected = to_fairseq(ours, base), theirs.state_dict()
    assert set(state) == set(expected) and all(torch.equal(state[name], expected[name]) for name in expected)
    assert state["decoder.output_projection.weight"].data_ptr() != ours.readout.linear.weight.data_ptr()
    twin = build(options(**vars(options_of(ours.decoder.c, base))))
    twin.load_state_dict(state)
    for model in (theirs, twin):
        a, b = logits(model, ours)
        assert a.std() > 0.1
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change", [{"embed_mult": 5.0}, {"output_mult": 0.5}, {"attention_scale": 0.2}, {"first_position": 0}]
)
def test_a_wrong_multiplier_changes_logits(change):
    """What the conversion has to carry, beside the weights: the test above would see it missing."""
    torch.manual_seed(0)
    theirs = build(options(**SMALL))
    right = from_fairseq(theirs.state_dict(), theirs.cfg)
    wrong = EncoderDecoder(replace(right.decoder.c, **change)).eval()
    wrong.load_state_dict(right.state_dict())
    a, b = logits(theirs, wrong)
    assert (a - b).abs().max() > 1e-3
    with pytest.raises(UserError, match=next(iter(change))):
        to_fairseq(wrong)


OTHERS = [{"encoder_learned_pos": True}, {"encoder_normalize_before": True}, {"activation_fn": "tanh"}]
OTHERS += [{"attention_dropout": 0.1}, {"adaptive_softmax_cutoff": "9"}]
OTHERS += [{"decoder_layerdrop": 0.2, "quant_noise_pq": 0.1}]


@pytest.mark.parametrize("change", OTHERS, ids=str)
def test_options_without_an_equal_are_named(change):
    """One line, all of them in it; of two that must be alike, both."""
    also = {"encoder_normalize_before": " with decoder_normalize_before=False"}
    also["attention_dropout"] = " with activation_dropout=0.0"
    with pytest.raises(UserError, match=", ".join(f"{x}={value}{also.get(x, '')}" for x, value in change.items())):
        config_of(options(**SMALL, **change), VOCAB)


# what the error says -> what is put into the state dict; None: nothing is there
DAMAGE = {
    "lacks decoder.layers.0.encoder_attn.q_proj.bias": ("decoder.layers.0.encoder_attn.q_proj.bias", None),
    "lacks encoder.embed_tokens.weight": ("encoder.embed_tokens.weight", None),
    "unknown decoder.embed_positions.weight": ("decoder.embed_positions.weight", torch.zeros(3)),
    "differ, but are tied by the options": ("decoder.output_projection.weight", torch.zeros(VOCAB, 32)),
    r"give \[65, 32\], expected \[64, 32\] by the options": ("encoder.layers.0.fc1.weight", torch.zeros(65, 32)),
    "encoder.version is": ("encoder.version", torch.tensor([1.0])),
    f"have 20 and {VOCAB} symbols": ("encoder.embed_tokens.weight", torch.zeros(20, 32)),
}


@pytest.mark.parametrize(("says", "damage"), DAMAGE.items(), ids=DAMAGE)
def test_states_that_do_not_fit_are_refused(says, damage):
    """Never a model with half of its weights."""
    theirs = build(options(**SMALL))
    state = {**theirs.state_dict(), damage[0]: damage[1]}
    with pytest.raises(UserError, match=says):
        from_fairseq({name: x for name, x in state.items() if x is not None}, theirs.cfg)


def test_multipliers_are_not_lost():
    """Those that a plain architecture does not have are no plain model's, nor are those of a plan."""
    mup = options(**MUP)
    ours = from_fairseq(build(mup).state_dict(), mup)
    with pytest.raises(UserError, match=r"embed_mult=4\.0"):
        to_fairseq(ours)
    base, wide = (EncoderDecoder(config_of(options(**{**SMALL, "width": n}), VOCAB)) for n in (32, 64))
    scaling_plan(base, wide).initialize(wide, base)
    with pytest.raises(UserError, match=r"'readout\.linear' has a multiplier of µP"):
        to_fairseq(wide)
    with pytest.raises(UserError, match="encoder_embed_dim=None"):
        config_of(argparse.Namespace(), VOCAB)
    c = config_of(options(**IWSLT), 64)  # fairseq's transformer_iwslt_de_en as it is
    assert (c.width, c.d_ffn, c.heads, c.depth) == (512, 1024, 4, 6)
