"""Weights between our `Bert` and Hugging Face's: equal states and logits, the same bits back, anything else refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from transformers import BertConfig, BertForMaskedLM, BertForNextSentencePrediction, BertForPreTraining, BertModel

from mutransfer import scaling_plan
from mutransfer.errors import UserError
from mutransfer.huggingface import (
    config_of,
    from_huggingface,
    options_of,
    set_attention_scale,
    to_huggingface,
)
from mutransfer.models.transformer import Bert
from tests.huggingface.nets import batch, built, config, theirs

KINDS = {"pretraining": BertForPreTraining, "masked_lm": BertForMaskedLM, "model": BertModel}
CLOSE = {"atol": 1e-5, "rtol": 0.0}


@torch.no_grad()
def states(bert: Bert, tokens: Tensor, segments: Tensor, padding: Tensor) -> list[Tensor]:
    """What comes after the embeddings and after each block, [B, T, N]."""
    seen = []
    modules = [bert.stack.drop, *bert.stack.blocks]
    handles = [m.register_forward_hook(lambda module, args, out: seen.append(out)) for m in modules]
    bert.hidden(tokens, segments, padding)
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def compare(model: nn.Module, bert: Bert, rows: tuple[Tensor, Tensor, Tensor], **close: float) -> None:
    """All states and logits at tokens that are no padding; what the model gives of them."""
    is_real = ~rows[2]
    out = model(**theirs(*rows), output_hidden_states=True)
    ours = states(bert, *rows)
    assert len(ours) == len(out.hidden_states) > 2
    for a, b in zip(ours, out.hidden_states, strict=True):
        assert b.std() > 0.1
        torch.testing.assert_close(a[is_real], b[is_real], **(close or CLOSE))
    logits, following = bert(*rows)
    if isinstance(model, BertModel):
        torch.testing.assert_close(torch.tanh(bert.pooler(ours[-1][:, 0])), out.pooler_output, **(close or CLOSE))
        return
    found = out.logits if isinstance(model, BertForMaskedLM) else out.prediction_logits
    torch.testing.assert_close(logits[is_real], found[is_real], **(close or CLOSE))
    if isinstance(model, BertForPreTraining):
        torch.testing.assert_close(following, out.seq_relationship_logits, **(close or CLOSE))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layout", KINDS)
def test_states_and_logits_are_equal_and_the_bits_come_back(layout: str, attention: str) -> None:
    """With padding and segments; every weight random, biases and gains too; their class loads what we write."""
    model = built(KINDS[layout], attn_implementation=attention)
    bert = from_huggingface(model)
    compare(model, bert, batch())
    state, expected = to_huggingface(bert, layout), model.state_dict()
    assert list(sorted(state)) == list(sorted(expected))
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    own = list(bert.parameters())
    assert len({x.data_ptr() for x in (*state.values(), *own)}) == len(state) + len(own)  # copies
    again = from_huggingface(state, model.config.to_dict())
    names = set(dict(bert.named_parameters()))
    if layout != "pretraining":
        names = {n for n in names if n.startswith("stack.")}
    assert all(torch.equal(again.get_parameter(name), bert.get_parameter(name)) for name in names)


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"type_vocab_size": 3, "layer_norm_eps": 1e-3}])
def test_other_configs(changes: dict) -> None:
    """What may vary does."""
    compare(model := built(BertForPreTraining, **changes), from_huggingface(model), batch())


def test_an_untied_decoder() -> None:
    """Its weight is its own, on both sides, and so is its bias: the one beside it does nothing in transformers 5."""
    model = built(BertForPreTraining, tie_word_embeddings=False)
    bert = from_huggingface(model)
    assert bert.readout.weight is not bert.stack.embed.weight
    compare(model, bert, batch())
    state = to_huggingface(bert)
    for name, p in model.cls.predictions.decoder.named_parameters():
        assert torch.equal(state[f"cls.predictions.decoder.{name}"], p)


def test_bert_base_uncased() -> None:
    """The published shape, 110M parameters; two of its blocks with random weights (nothing can be downloaded here)."""
    c = config_of(BertConfig())
    assert (c.depth, c.width, c.heads, c.d_ffn, c.vocab) == (12, 768, 12, 3072, 30522)
    assert (c.length, c.segments, c.norm_eps, c.norm) == (512, 2, 1e-12, "post")
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in m.parameters()) for m in (Bert(c), BertForPreTraining(BertConfig()))]
    assert sizes[0] == sizes[1] == pytest.approx(110e6, rel=0.01)
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(num_hidden_layers=2, vocab_size=1000)).eval()
    bert = from_huggingface(model)
    compare(model, bert, batch((24, 15), 1000))
    state = to_huggingface(bert)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("layout", KINDS)
def test_from_ours_to_theirs(layout: str) -> None:
    """A model of ours, and the config that its twin is built with."""
    torch.manual_seed(0)
    bert = Bert(config_of(config(hidden_dropout_prob=0.2))).eval()
    options = options_of(bert.c)
    assert options == {key: getattr(config(hidden_dropout_prob=0.2), key) for key in options}
    assert config_of(options) == bert.c
    model = KINDS[layout](BertConfig(**options)).eval()
    model.load_state_dict(to_huggingface(bert, layout))
    with torch.no_grad():
        compare(model, bert, batch())


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


def old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As converted from TensorFlow: gamma and beta, positions as a buffer, one name for the decoder's bias."""
    named = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
        if name != "cls.predictions.decoder.bias"
    }
    return {**named, "bert.embeddings.position_ids": torch.arange(12)[None]}


def bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors keeps it: each shared tensor once."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("cls.predictions.decoder")}


def other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each shared tensor once, by its other name."""
    return {
        n: x for n, x in state.items() if n not in ("cls.predictions.bias", "bert.embeddings.word_embeddings.weight")
    }


@pytest.mark.parametrize("as_saved", [old, bare, other])
def test_names_of_checkpoints(as_saved) -> None:
    """Every way to save the same model gives the same model."""
    model = built(BertForPreTraining)
    state = model.state_dict()
    assert as_saved(state).keys() != state.keys()
    bert, same = from_huggingface(as_saved(state), model.config), from_huggingface(model)
    assert all(torch.equal(a, b) for a, b in zip(bert.parameters(), same.parameters(), strict=True))


def test_the_encoder_under_a_prefix() -> None:
    """As in a checkpoint of which only the encoder was kept."""
    model = built(BertModel)
    bert = from_huggingface({f"bert.{name}": x for name, x in model.state_dict().items()}, model.config)
    compare(model, bert, batch())


def _drop(state: dict) -> None:
    del state["bert.encoder.layer.1.attention.self.key.bias"]


def _add(state: dict) -> None:
    state["classifier.weight"] = torch.zeros(2, 16)


def _grow(state: dict) -> None:
    state["bert.embeddings.position_embeddings.weight"] = torch.zeros(13, 16)


def _tear(state: dict) -> None:
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_drop, "lacks encoder.layer.1.attention.self.key.bias"),
        (_add, "has the unknown classifier.weight"),
        (_grow, r"position_embeddings.weight give \[13, 16\], but the config wants \[12, 16\]"),
        (_tear, "word_embeddings.weight and cls.predictions.decoder.weight differ"),
    ],
)
def test_other_weights_are_refused(damage, says: str) -> None:
    """By name."""
    model = built(BertForPreTraining)
    state = model.state_dict()
    damage(state)
    with pytest.raises(UserError, match=says):
        from_huggingface(state, model.config)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type=relative_key"),
        ({"hidden_act": "gelu_new"}, "hidden_act=gelu_new"),
        ({"is_decoder": True, "add_cross_attention": True}, "is_decoder=True, add_cross_attention=True"),
        ({"model_type": "roberta"}, "model_type=roberta"),
        ({"hidden_size": None, "intermediate_size": None}, "lacks hidden_size, intermediate_size"),
        ({"num_attention_heads": 3}, "width 16 is no multiple of 3 heads"),
    ],
)
def test_configs_without_an_equal_are_named(changes: dict, says: str) -> None:
    """One line, all of them in it."""
    with pytest.raises(UserError, match=says):
        config_of({**config().to_dict(), **changes})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norm": "pre"}, "norm=pre"),
        ({"positions": "sinusoidal"}, "positions=sinusoidal"),
        ({"embed_norm": False}, "embed_norm=False"),
        ({"bias": False}, "bias=False"),
        ({"embed_mult": 2.0, "output_mult": 0.5}, "embed_mult=2.0, output_mult=0.5"),
        ({"attention_scale": 0.1}, "attention_scale=0.1"),
        ({"d_head": 3}, "d_head=3"),
        ({"inner_dropout": 0.1, "ffn_dropout": None}, "ffn_dropout=0.1"),
    ],
)
def test_ours_without_an_equal_is_refused(change: dict, says: str) -> None:
    """What a state dict cannot carry would be lost without a word."""
    with pytest.raises(UserError, match=says):
        to_huggingface(Bert(replace(config_of(config()), **change)))


def test_what_mup_has_set_is_not_lost() -> None:
    """The scale of a model's attention comes along; a state dict, or a model of theirs, could not carry it back."""
    model = built(BertForMaskedLM)
    set_attention_scale(model, 2)
    bert = from_huggingface(model)
    assert bert.c.logit_scale == 2**0.5 / 8
    compare(model, bert, batch())
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
    """A state dict does not know its heads; a layout is one of three."""
    with pytest.raises(UserError, match="give the config too"):
        from_huggingface(built(BertModel).state_dict())
    with pytest.raises(UserError, match=r"unknown layout 'masked'\. Did you mean 'masked_lm'"):
        to_huggingface(Bert(config_of(config())), "masked")


def test_their_library_is_not_imported() -> None:
    """It is an extra; importing it takes seconds."""
    code = "import sys, mutransfer.huggingface; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
