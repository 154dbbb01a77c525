"""BERT: equal to its formulas, pays for masked places only, can be fine-tuned.

Equalities are judged in float64 to 1e-10; what must be the same computation, to the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer import scaling_plan
from mutransfer.models.transformer import Bert, Classifier
from mutransfer.models.transformer_config import Config
from mutransfer.training.step import Recorder
from tests.models import reference
from tests.models.test_transformer import compared
from tests.models.tiny import EXACT, MEGATRON, MULTS, PUBLISHED, TINY, built, padding, segments, tokens, updated

CASES = {
    "megatron": MEGATRON,
    "published": PUBLISHED,
    "unfused": replace(PUBLISHED, fused=False),
    "sinusoidal, untied": replace(TINY, segments=2),
    "post, no segments": replace(TINY, norm="post", tied=True),
    "relative, large eps": replace(TINY, positions="relative", norm_eps=0.1, embed_norm=True),
    "no bias, mults": replace(MEGATRON, bias=False, **MULTS),
}


def flat(out: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in out])


# ---- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", CASES.values(), ids=CASES)
def test_bert_is_its_formulas(c: Config, double: None) -> None:
    """Values and gradients equal the slow reference; every token sees both sides, and no padding."""
    model, hidden, kinds = built(Bert, c), padding([5, 3], 5), segments(c)
    ours = flat(model(tokens(), kinds, hidden))
    compared(model, ours, lambda w: flat(reference.bert(w, c, tokens(), kinds, hidden)))


def test_masked_places_are_places_of_all(double: None) -> None:
    """They count through the whole batch, in the order given, twice too; pairs and the encoder do not change."""
    model, places = built(Bert, MEGATRON), torch.tensor([7, 0, 4, 7])
    every, pairs = model(tokens(), segments(MEGATRON))
    some, same = model(tokens(), segments(MEGATRON), None, places)
    torch.testing.assert_close(some, every[[1, 0, 0, 1], [2, 0, 4, 2]], **EXACT)
    assert torch.equal(pairs, same)
    torch.testing.assert_close(flat(model(tokens())), flat(model(tokens(), torch.zeros_like(tokens()))))  # segment 0


@pytest.mark.parametrize("masked", [6, None])
def test_only_masked_places_pay_for_the_vocabulary(masked: int | None) -> None:
    """With places, nothing of size [B, T, V] arises in either pass; without (the negative), it does."""
    batch, length, vocab = 4, 8, 512
    model = Bert(replace(MEGATRON, vocab=vocab))
    places = None if masked is None else torch.arange(masked)
    with Recorder() as recorder:
        logits, _ = model(tokens(batch, length, vocab), None, None, places)
        logits.square().sum().backward()
    made = torch.utils._pytree.tree_leaves([call.result for call in recorder.calls])
    largest = max(x.numel() for x in made if torch.is_tensor(x))
    assert (largest < batch * length * vocab) == (masked is not None)
    assert largest == max(vocab * (masked or batch * length), vocab * 8)


def test_ffn_dropout_parts_from_inner_dropout() -> None:
    """BERT drops attention weights, but nothing between up and down; by default both, as before."""
    for c, rate in ((TINY, 0.0), (replace(TINY, inner_dropout=0.3), 0.3)):
        assert c.activation_dropout == rate
        assert replace(c, ffn_dropout=0.1).activation_dropout == 0.1
    model = Bert(replace(MEGATRON, inner_dropout=0.3, ffn_dropout=0.0)).train()
    assert model.stack.blocks[0].inner_drop.p == 0 and model.stack.blocks[0].attention.dropout == 0.3
    assert not torch.equal(model(tokens())[0], model(tokens())[0])
    assert torch.equal(model.eval()(tokens())[0], model(tokens())[0])


# ---- fine-tuning ---------------------------------------------------------------------------------------------------


def test_classifier() -> None:
    """The trained encoder and pooler themselves, a new readout of the given classes; it learns."""
    bert = built(Bert, replace(MEGATRON, dropout=0.1))
    model = Classifier(bert, 3).eval()
    assert model.stack is bert.stack and model.pooler is bert.pooler
    out = model(tokens(), segments(MEGATRON), padding([5, 3], 5))
    assert out.shape == (2, 3) and out.abs().max() > 0
    rows = tokens().masked_fill(padding([5, 3], 5), 1)
    torch.testing.assert_close(model(rows, segments(MEGATRON), padding([5, 3], 5)), out)
    with torch.no_grad():
        for ours, its in zip(model.readout.parameters(), bert.following.parameters(), strict=True):
            ours[:2] = its
    torch.testing.assert_close(model(tokens())[:, :2], bert.eval()(tokens())[1])
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    found = [updated(optimizer, F.cross_entropy(model(tokens()), torch.tensor([2, 0]))) for _ in range(20)]
    assert found[-1] < 0.5 * found[0]


def test_a_classifier_starts_at_zero_and_needs_no_init_of_the_plan() -> None:
    """So a trained encoder, which `initialize` would rescale, can be fine-tuned by a plan's learning rates."""
    base, bert = (Bert(replace(MEGATRON, width=n, vocab=32, zero_readout=True)) for n in (16, 64))
    plan = scaling_plan(base, bert)
    plan.initialize(bert, base)
    small, model = (Classifier(one, 2) for one in (base, bert))
    assert not model(tokens()).any()
    groups = scaling_plan(small, model).param_groups(model, lr=1.0)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(model.readout.weight)] == rates[id(model.pooler.weight)] == 1 / 4
    assert rates[id(model.stack.embed.weight)] == 1
