"""Weights between our model and fairseq's: equal logits, the same bits there and back, anything else refused."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch

pytest.importorskip("fairseq.tasks", reason="needs fairseq; see mutransfer.fairseq_mup")

from fairseq_nets import VOCAB, build, options, padded, sentences

from mutransfer.data.pairs import EOS
from mutransfer.errors import UserError
from mutransfer.fairseq_mup import plugin  # noqa: F401  (registers the architectures)
from mutransfer.fairseq_mup.weights import Base, config_of, from_fairseq, options_of, to_fairseq
from mutransfer.models.transformer import EncoderDecoder

IWSLT = {"arch": "transformer_iwslt_de_en", "share_decoder_input_output_embed": True}
WMT = {"arch": "transformer_vaswani_wmt_en_de_big", "share_all_embeddings": True}
MUP = {
    **IWSLT,
    "arch": "mup_transformer_iwslt_de_en",
    "mup_base_width": 16,
    "mup_base_ffn": 32,
    "mup_alpha_output": 2.0,
    "mup_alpha_attn": 3.0,
}
CASES = {
    "iwslt": IWSLT,
    "wmt": {**WMT, "encoder_attention_heads": 8, "decoder_attention_heads": 8},
    "untied": {"arch": "transformer"},
    "pre": {**IWSLT, "encoder_normalize_before": True, "decoder_normalize_before": True, "activation_fn": "gelu"},
    "mup": MUP,
    "mup untied": {**MUP, "share_decoder_input_output_embed": False},
}


@torch.no_grad()
def logits(theirs, ours, lengths: tuple[list[int], list[int]] = ([5, 9, 2], [4, 3, 7]), vocab: int = VOCAB):
    """[R, V] of all target tokens, fairseq's with its sources padded on the left; and ours, padded on the right."""
    sources, targets = (sentences(n, seed, vocab) for seed, n in enumerate(lengths))
    inputs = [torch.cat([torch.tensor([EOS]), row[:-1]]) for row in targets]
    size = torch.tensor([len(row) for row in sources])
    a, _ = theirs(padded(sources, left=True), size, padded(inputs))
    source = padded(sources)
    b = ours(source, padded(inputs), source == 1)
    real = torch.arange(a.shape[1]) < torch.tensor([[len(row)] for row in inputs])
    return a[real], b[real]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_logits_are_equal_and_the_bits_come_back(case):
    """From theirs to ours and back, small; every weight random, biases and gains too."""
    torch.manual_seed(0)
    found = options(**{"width": 32, "encoder_layers": 2, "decoder_layers": 2, **case})
    theirs = build(found)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    ours = from_fairseq(theirs.state_dict(), found)
    a, b = logits(theirs, ours)
    assert a.std() > 0.1
    torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)
    state, expected = to_fairseq(ours, Base.of(found)), theirs.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert state["decoder.output_projection.weight"].data_ptr() != ours.readout.linear.weight.data_ptr()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_from_ours_to_theirs(case):
    """A model of ours, and the options that fairseq builds its twin with."""
    torch.manual_seed(0)
    first = options(**{"width": 32, **case})
    config = config_of(first, VOCAB)
    ours = EncoderDecoder(config).eval()
    made = options_of(config, Base.of(first))
    theirs = build(options(**vars(made)))
    theirs.load_state_dict(to_fairseq(ours, Base.of(first)))
    a, b = logits(theirs, ours)
    torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)


def test_real_size_of_iwslt():
    """fairseq's transformer_iwslt_de_en as it is, but for the number of symbols."""
    torch.manual_seed(0)
    found = options(**IWSLT)
    theirs = build(found, 64)
    ours = from_fairseq(theirs.state_dict(), found)
    assert (ours.decoder.c.width, ours.decoder.c.d_ffn, ours.decoder.c.heads, ours.decoder.c.depth) == (512, 1024, 4, 6)
    a, b = logits(theirs, ours, ([17, 30], [25, 12]), 64)
    torch.testing.assert_close(b, a, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change", [{"embed_mult": 5.0}, {"output_mult": 0.5}, {"attention_scale": 0.2}, {"first_position": 0}]
)
def test_a_wrong_multiplier_changes_logits(change):
    """What the conversion has to carry, beside the weights: the test above would see it missing."""
    torch.manual_seed(0)
    theirs = build(options(**{"width": 32, **IWSLT}))
    right = from_fairseq(theirs.state_dict(), theirs.cfg)
    wrong = EncoderDecoder(replace(right.decoder.c, **change)).eval()
    wrong.load_state_dict(right.state_dict())
    a, b = logits(theirs, wrong)
    assert (a - b).abs().max() > 1e-3
    with pytest.raises(UserError, match=next(iter(change))):
        to_fairseq(wrong)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoder_learned_pos": True}, "encoder_learned_pos=True"),
        ({"layernorm_embedding": True}, "layernorm_embedding=True"),
        ({"encoder_normalize_before": True}, "encoder_normalize_before=True with decoder_normalize_before=False"),
        ({"activation_fn": "tanh"}, "activation_fn=tanh"),
        ({"attention_dropout": 0.1}, "attention_dropout=0.1 with activation_dropout=0.0"),
        ({"decoder_layers": 2}, "encoder_layers=1 with decoder_layers=2"),
        ({"adaptive_softmax_cutoff": "9"}, "adaptive_softmax_cutoff=9"),
        ({"quant_noise_pq": 0.1, "decoder_layerdrop": 0.2}, "decoder_layerdrop=0.2, quant_noise_pq=0.1"),
    ],
)
def test_options_without_an_equal_are_named(change, says):
    """One line, all of them in it."""
    with pytest.raises(UserError, match=says):
        config_of(options(**{"width": 32, **IWSLT, **change}), VOCAB)


def _drop(state, name="decoder.layers.0.encoder_attn.q_proj.bias"):
    del state[name]


def _tear(state):
    state["decoder.output_projection.weight"] = state["decoder.output_projection.weight"] + 1


def _widen(state):
    state["encoder.layers.0.fc1.weight"] = torch.zeros(65, 32)


DAMAGE = {
    "lacks decoder.layers.0.encoder_attn.q_proj.bias": _drop,
    "lacks encoder.embed_tokens.weight": lambda s: _drop(s, "encoder.embed_tokens.weight"),
    "unknown decoder.embed_positions.weight": lambda s: s.update({"decoder.embed_positions.weight": torch.zeros(3)}),
    "differ, but the options tie them": _tear,
    r"fc1.weight give \[65, 32\], but the options want \[64, 32\]": _widen,
    "encoder.version is": lambda s: s.update({"encoder.version": torch.tensor([1.0])}),
}


@pytest.mark.parametrize(("says", "damage"), DAMAGE.items(), ids=DAMAGE)
def test_states_that_do_not_fit_are_refused(says, damage):
    """Never a model with half of its weights."""
    theirs = build(options(**{"width": 32, **IWSLT}))
    state = dict(theirs.state_dict())
    damage(state)
    with pytest.raises(UserError, match=says):
        from_fairseq(state, theirs.cfg)


def test_two_dictionaries_and_other_models_are_refused():
    """Ours has one vocabulary; and multipliers that a plain architecture does not have are no plain model's."""
    theirs = build(options(**{"width": 32, **IWSLT}), (20, 30))
    with pytest.raises(UserError, match="20 and 30 symbols"):
        from_fairseq(theirs.state_dict(), theirs.cfg)
    mup = options(**{"width": 32, **MUP})
    ours = from_fairseq(build(mup).state_dict(), mup)
    with pytest.raises(UserError, match=r"embed_mult=4\.0"):
        to_fairseq(ours)
    with pytest.raises(UserError, match="encoder_embed_dim=None"):
        config_of(argparse.Namespace(), VOCAB)
