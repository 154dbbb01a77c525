"""Weights between our `Bert` and Hugging Face's: equal states and logits, the same bits back, anything else refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from transformers import BertConfig, BertForMaskedLM, BertForNextSentencePrediction, BertForPreTraining, BertModel

from mutransfer import scaling_plan
from mutransfer.errors import UserError
from mutransfer.huggingface import config_of, from_huggingface, options_of, set_attention_scale, to_huggingface
from mutransfer.models.transformer import Bert
from tests.huggingface.nets import batch, built, config, theirs

KINDS = {"pretraining": BertForPreTraining, "masked_lm": BertForMaskedLM, "model": BertModel}


@torch.no_grad()
def compare(model: nn.Module, bert: Bert) -> None:
    """All states and logits at tokens that are no padding, after the embeddings and each block."""
    rows = batch()
    is_real, ours = ~rows[2], []
    modules = [bert.stack.drop, *bert.stack.blocks]
    handles = [m.register_forward_hook(lambda module, args, out: ours.append(out)) for m in modules]
    logits, following = bert(*rows)
    for handle in handles:
        handle.remove()
    out = model(**theirs(*rows), output_hidden_states=True)
    pairs = [(a[is_real], b[is_real]) for a, b in zip(ours, out.hidden_states, strict=True)]
    assert all(b.std() > 0.1 for _, b in pairs)
    if isinstance(model, BertModel):
        pairs.append((torch.tanh(bert.pooler(ours[-1][:, 0])), out.pooler_output))
    else:
        found = out.logits if isinstance(model, BertForMaskedLM) else out.prediction_logits
        pairs.append((logits[is_real], found[is_real]))
    if isinstance(model, BertForPreTraining):
        pairs.append((following, out.seq_relationship_logits))
    for a, b in pairs:
        assert b.std() > 0.05
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", KINDS)
def test_states_and_logits_are_equal_and_the_bits_come_back(layout: str, attention: str) -> None:
    """With padding and segments; every weight random, biases and gains too; into a twin built with our options."""
    model = built(KINDS[layout], attn_implementation=attention, hidden_dropout_prob=0.2)
    bert = from_huggingface(model)
    compare(model, bert)
    state, expected = to_huggingface(bert, layout), model.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)
    own = list(bert.parameters())
    assert len({x.data_ptr() for x in (*state.values(), *own)}) == len(state) + len(own)  # copies
    options = options_of(bert.c)
    assert options == {key: getattr(model.config, key) for key in options} and config_of(options) == bert.c
    twin = KINDS[layout](BertConfig(**options)).eval()
    twin.load_state_dict(state)
    compare(twin, bert)


@pytest.mark.parametrize(
    "changes", [{"hidden_act": "relu"}, {"type_vocab_size": 3, "layer_norm_eps": 1e-3}, {"tie_word_embeddings": False}]
)
def test_other_configs(changes: dict) -> None:
    """What may vary does. An untied decoder's weight and bias are its own; the bias beside it does nothing."""
    model = built(BertForPreTraining, **changes)
    bert = from_huggingface(model)
    compare(model, bert)
    assert (bert.readout.weight is bert.stack.embed.weight) == model.config.tie_word_embeddings
    state = to_huggingface(bert)
    for name, p in model.cls.predictions.decoder.named_parameters():
        assert torch.equal(state[f"cls.predictions.decoder.{name}"], p)


def test_bert_base_uncased() -> None:
    """The published shape, 110M parameters."""
    c = config_of(BertConfig())
    assert (c.depth, c.width, c.heads, c.d_ffn, c.vocab) == (12, 768, 12, 3072, 30522)
    assert (c.length, c.segments, c.norm_eps, c.norm) == (512, 2, 1e-12, "post")
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in m.parameters()) for m in (Bert(c), BertForPreTraining(BertConfig()))]
    assert sizes[0] == sizes[1] == pytest.approx(110e6, rel=0.01)


def test_dropout_is_where_theirs_is() -> None:
    """Of embeddings, branches and attention weights; not between up and down."""
    bert = from_huggingface(built(BertModel, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3))
    assert bert.stack.drop.p == 0.2 and bert.stack.blocks[0].drop.p == 0.2
    assert bert.stack.blocks[0].attention.dropout == 0.3 and bert.stack.blocks[0].inner_drop.p == 0


def test_parts_that_are_not_there_start_afresh() -> None:
    """A BertModel has no heads, a BertForMaskedLM no pooler; what they have is theirs."""
    model = built(BertForNextSentencePrediction)
    torch.manual_seed(1)
    bert = from_huggingface(model)
    assert torch.equal(bert.following.weight, model.cls.seq_relationship.weight)
    assert not bert.transform.bias.any() and bert.transform.weight.std() > 0.1


DECODER, BIAS, WORDS = "cls.predictions.decoder", "cls.predictions.bias", "bert.embeddings.word_embeddings.weight"


def old(name: str) -> str | None:
    """As converted from TensorFlow: gamma and beta, one name for the decoder's bias."""
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return None if name == f"{DECODER}.bias" else name


SAVED = {
    "old": old,
    "safetensors, each shared tensor once": lambda name: None if name.startswith(DECODER) else name,
    "each shared tensor once, by its other name": lambda name: None if name in (BIAS, WORDS) else name,
}


@pytest.mark.parametrize("renamed", SAVED.values(), ids=SAVED)
def test_names_of_checkpoints(renamed) -> None:
    """Every way to save the same model gives the same model, positions as a buffer or not."""
    model = built(BertForPreTraining)
    state = {renamed(name): x for name, x in model.state_dict().items()}
    del state[None]
    state["bert.embeddings.position_ids"] = torch.arange(12)[None]
    bert, same = from_huggingface(state, model.config), from_huggingface(model)
    assert all(torch.equal(a, b) for a, b in zip(bert.parameters(), same.parameters(), strict=True))
    only = {f"bert.{name}": x for name, x in model.bert.state_dict().items()}  # of which only the encoder was kept
    compare(model.bert, from_huggingface(only, model.config))


# what the error says -> what is put into the state dict; None: nothing is there
DAMAGE = {
    "lacks encoder.layer.1.attention.self.key.bias": ("bert.encoder.layer.1.attention.self.key.bias", None),
    "has the unknown classifier.weight": ("classifier.weight", torch.zeros(2, 16)),
    r"give \[13, 16\], expected \[12, 16\]": ("bert.embeddings.position_embeddings.weight", torch.zeros(13, 16)),
    "word_embeddings.weight and cls.predictions.decoder.weight differ": (f"{DECODER}.weight", torch.zeros(32, 16)),
}


@pytest.mark.parametrize(("says", "damage"), DAMAGE.items(), ids=DAMAGE)
def test_other_weights_are_refused(damage, says: str) -> None:
    """By name."""
    model = built(BertForPreTraining)
    state = {**model.state_dict(), damage[0]: damage[1]}
    with pytest.raises(UserError, match=says):
        from_huggingface({name: x for name, x in state.items() if x is not None}, model.config)


# what the error says -> the fields of their config
CONFIGS = {
    "position_embedding_type=relative_key": {"position_embedding_type": "relative_key"},
    "hidden_act=gelu_new": {"hidden_act": "gelu_new"},
    "is_decoder=True, add_cross_attention=True": {"is_decoder": True, "add_cross_attention": True},
    "lacks hidden_size, intermediate_size": {"hidden_size": None, "intermediate_size": None},
    "width 16 is no multiple of 3 heads": {"num_attention_heads": 3},
}
OURS = [{"norm": "pre"}, {"positions": "sinusoidal"}, {"bias": False}, {"embed_mult": 2.0, "output_mult": 0.5}]
OURS += [{"attention_scale": 0.1}, {"d_head": 3}, {"ffn_dropout": 0.1}]


@pytest.mark.parametrize(("says", "changes"), CONFIGS.items(), ids=CONFIGS)
def test_configs_without_an_equal_are_named(says: str, changes: dict) -> None:
    """One line, all of them in it."""
    with pytest.raises(UserError, match=says):
        config_of({**config().to_dict(), **changes})


@pytest.mark.parametrize("change", OURS, ids=str)
def test_ours_without_an_equal_is_refused(change: dict) -> None:
    """What a state dict cannot carry would be lost without a word."""
    with pytest.raises(UserError, match=", ".join(f"{name}={value}" for name, value in change.items())):
        to_huggingface(Bert(replace(config_of(config()), **change)))


def test_what_mup_has_set_is_not_lost() -> None:
    """The scale of a model's attention comes along; a state dict, or a model of theirs, could not carry it back."""
    model = built(BertForMaskedLM)
    set_attention_scale(model, 2)
    bert = from_huggingface(model)
    assert bert.c.logit_scale == 2**0.5 / 8
    compare(model, bert)
    with pytest.raises(UserError, match="attention_scale"):
        to_huggingface(bert)
    model.bert.encoder.layer[1].attention.self.scaling = 1.0
    with pytest.raises(UserError, match="different scales"):
        from_huggingface(model)
    base, wide = (Bert(config_of(config(hidden_size=n))) for n in (16, 64))
    scaling_plan(base, wide).initialize(wide, base)
    with pytest.raises(UserError, match="'readout' has a multiplier of µP"):
        to_huggingface(wide)


def test_bad_calls() -> None:
    """A state dict does not know its heads; a layout is one of three. Their library, an extra, is not imported."""
    with pytest.raises(UserError, match="give the config too"):
        from_huggingface(built(BertModel).state_dict())
    with pytest.raises(UserError, match=r"unknown layout 'masked'\. Did you mean 'masked_lm'"):
        to_huggingface(Bert(config_of(config())), "masked")
    with pytest.raises(UserError, match=r"ffn_dropout=0\.1"):  # as inner_dropout, if none is given
        to_huggingface(Bert(replace(config_of(config()), ffn_dropout=None)))
    code = "import sys, mutransfer.huggingface; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
