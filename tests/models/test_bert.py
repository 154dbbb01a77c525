"""BERT: equal to its formulas, pays for masked places only, scales as µP says, can be fine-tuned, costs what it says.

Equalities are judged in float64 to 1e-10; what must be the same computation, to the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mutransfer import attention_scale, coord_check, scaling_plan
from mutransfer.errors import UserError
from mutransfer.models import transformer_config as cost
from mutransfer.models.transformer import Bert, Classifier
from mutransfer.models.transformer_config import Config
from mutransfer.results.coordinates import CoordVerdict
from mutransfer.training.step import Step
from tests.models import reference
from tests.models.test_transformer import compared
from tests.models.tiny import EXACT, TINY, built, padding, tokens

MEGATRON = replace(TINY, positions="learned", activation="gelu", segments=2, tied=True)
PUBLISHED = replace(MEGATRON, norm="post", embed_norm=True, norm_eps=1e-12)
CASES = {
    "megatron": MEGATRON,
    "published": PUBLISHED,
    "unfused": replace(PUBLISHED, fused=False),
    "sinusoidal, untied": replace(TINY, segments=2),
    "post, no segments": replace(TINY, norm="post", tied=True),
    "relative, large eps": replace(TINY, positions="relative", norm_eps=0.1, embed_norm=True),
    "no bias, mults": replace(
        MEGATRON, bias=False, embed_mult=0.7, position_mult=1.3, output_mult=2.5, attention_scale=0.9
    ),
}


def segments(c: Config, first: tuple[int, ...] = (3, 2), length: int = 5) -> Tensor | None:
    """[B, T]: 1 from the second text on; None where there are none."""
    return (torch.arange(length) >= torch.tensor(first)[:, None]).long() if c.segments else None


def flat(out: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in out])


def loss(out: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    """``target``: one of every logits row, those of pairs last."""
    logits, following = out
    masked, pairs = target.split([target.numel() - len(following), len(following)])
    return F.cross_entropy(logits.flatten(0, -2), masked) + F.cross_entropy(following, pairs)


# ---- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", CASES.values(), ids=CASES)
def test_bert_is_its_formulas(c: Config, double: None) -> None:
    """Values and gradients equal the slow reference; every token sees both sides, and no padding."""
    model, hidden, kinds = built(Bert, c), padding([5, 3], 5), segments(c)
    ours = flat(model(tokens(), kinds, hidden))
    compared(model, ours, lambda w: flat(reference.bert(w, c, tokens(), kinds, hidden)))


@pytest.mark.parametrize("changes", [{"segments": 0}, {"embed_norm": False}, {"norm_eps": 0.1}, {"activation": "relu"}])
def test_dropping_a_part_would_be_seen(changes: dict, double: None) -> None:
    """The negative: each of them changes what the same weights compute."""
    model = built(Bert, PUBLISHED)
    weights = dict(model.named_parameters())
    wrong = flat(reference.bert(weights, replace(PUBLISHED, **changes), tokens(), segments(PUBLISHED)))
    assert (flat(model(tokens(), segments(PUBLISHED))) - wrong).abs().max() > 1e-3


def test_segments() -> None:
    """None is segment 0 everywhere; a model without segments refuses any."""
    model = built(Bert, MEGATRON)
    torch.testing.assert_close(flat(model(tokens())), flat(model(tokens(), torch.zeros(2, 5, dtype=torch.long))))
    with pytest.raises(UserError, match="there are segments, but the model was built without"):
        built(Bert, replace(MEGATRON, segments=0))(tokens(), segments(MEGATRON))
    with pytest.raises(UserError, match="segments is -1"):
        replace(TINY, segments=-1)


def test_masked_places_are_places_of_all(double: None) -> None:
    """They count through the whole batch, in the order given, twice too; pairs and the encoder do not change."""
    model, places = built(Bert, MEGATRON), torch.tensor([7, 0, 4, 7])
    every, pairs = model(tokens(), segments(MEGATRON))
    some, same = model(tokens(), segments(MEGATRON), None, places)
    torch.testing.assert_close(some, every[[1, 0, 0, 1], [2, 0, 4, 2]], **EXACT)
    assert torch.equal(pairs, same)
    torch.testing.assert_close(model.logits(model.hidden(tokens(), segments(MEGATRON))), every, **EXACT)


class _Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(x.numel() for x in torch.utils._pytree.tree_leaves(out) if torch.is_tensor(x))])
        return out


@pytest.mark.parametrize("masked", [6, None])
def test_only_masked_places_pay_for_the_vocabulary(masked: int | None) -> None:
    """With places, nothing of size [B, T, V] arises in either pass; without (the negative), it does."""
    batch, length, vocab = 4, 8, 512
    model = Bert(replace(MEGATRON, vocab=vocab))
    places = None if masked is None else torch.arange(masked)
    with _Largest() as largest:
        logits, _ = model(tokens(batch, length, vocab), None, None, places)
        logits.square().sum().backward()
    assert (largest.numel < batch * length * vocab) == (masked is not None)
    assert largest.numel == max(vocab * (masked or batch * length), vocab * 8)


def test_ffn_dropout_parts_from_inner_dropout() -> None:
    """BERT drops attention weights, but nothing between up and down; by default both, as before."""
    for c, rate in ((TINY, 0.0), (replace(TINY, inner_dropout=0.3), 0.3)):
        assert c.activation_dropout == rate
        assert replace(c, ffn_dropout=0.1).activation_dropout == 0.1
    model = Bert(replace(MEGATRON, inner_dropout=0.3, ffn_dropout=0.0)).train()
    assert model.stack.blocks[0].inner_drop.p == 0 and model.stack.blocks[0].attention.dropout == 0.3
    assert not torch.equal(model(tokens())[0], model(tokens())[0])
    assert torch.equal(model.eval()(tokens())[0], model(tokens())[0])


def test_init() -> None:
    """Embeddings embed_std, hidden matrices 1/sqrt(fan_in) times init_mult, readouts zero, tied, or by fan_in."""
    c = replace(MEGATRON, vocab=512, width=256, length=64, segments=8, embed_std=0.3, init_mult=0.5)
    model = Bert(c)
    for part in (model.stack.embed, model.stack.position, model.stack.segment):
        assert part.weight.std().item() == pytest.approx(0.3, rel=0.05)
    for linear in (model.transform, model.pooler):
        assert linear.weight.std().item() == pytest.approx(0.5 / 16, rel=0.05)
        assert not linear.bias.any()
    assert model.readout.weight is model.stack.embed.weight
    assert model.following.weight.std().item() == pytest.approx(1 / 16, rel=0.15)
    zero = Bert(replace(c, zero_readout=True, tied=False))
    assert not any(p.any() for part in (zero.readout, zero.following) for p in part.parameters())


def test_the_replayed_step_is_autograds() -> None:
    """Bit for bit, dropout included: the fast step is what every run takes."""
    found, fixed = [], (segments(PUBLISHED, (3, 2, 4)), padding([5, 3, 4], 5))
    for is_replayed in (True, False):
        torch.manual_seed(0)
        model = Bert(replace(PUBLISHED, dropout=0.1))
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)

        def compute(*batch: Tensor, model: nn.Module = model) -> Tensor:
            return loss(model(*batch[:-1]), batch[-1])

        step, out = Step(compute, optimizer), []
        for i in range(5):
            places = torch.randperm(15, generator=torch.Generator().manual_seed(i))[:6]
            batch = tokens(3, 5, seed=i), *fixed, places, tokens(1, 9, 2, seed=i)[0]
            if is_replayed:
                out.append(step(*batch))
            else:
                value = compute(*batch)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                out.append(value.detach())
        assert step.is_replayed == is_replayed
        found.append([*out, *(p.detach() for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


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
        model.readout.weight.copy_(torch.cat([bert.following.weight, bert.following.weight[:1]]))
        model.readout.bias.copy_(torch.cat([bert.following.bias, bert.following.bias[:1]]))
    torch.testing.assert_close(model(tokens())[:, :2], bert.eval()(tokens())[1])
    optimizer, found = torch.optim.Adam(model.train().parameters(), lr=0.01), []
    for _ in range(20):
        found.append(F.cross_entropy(model(tokens()), torch.tensor([2, 0])))
        optimizer.zero_grad()
        found[-1].backward()
        optimizer.step()
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


# ---- costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", CASES.values(), ids=CASES)
def test_parameters(c: Config) -> None:
    """What the built model has, a tied weight once."""
    assert cost.bert_parameters(c) == sum(p.numel() for p in Bert(c).parameters())


def test_parameters_of_the_paper() -> None:
    """App. F.3: a prototype of 13M, targets of 110M and 350M (BERT-large is 336M with this vocabulary)."""
    c = replace(MEGATRON, vocab=30522, length=512)
    shapes = {13e6: (256, 10, 8, 1.0), 110e6: (768, 12, 12, 4.0), 350e6: (1024, 24, 16, 4.0)}
    for count, (width, depth, heads, ratio) in shapes.items():
        big = replace(c, width=width, depth=depth, heads=heads, ffn_ratio=ratio)
        assert cost.bert_parameters(big) == pytest.approx(count, rel=0.1)


@pytest.mark.parametrize("c", [MEGATRON, PUBLISHED, replace(TINY, d_head=3)])
def test_flops(c: Config) -> None:
    """Against torch's own counter, forward and backward, to 0.1%; the vocabulary costs at masked places only."""
    c = replace(c, vocab=64, width=16, fused=False)
    places = torch.tensor([1, 2, 7, 9, 12, 17])
    with FlopCounterMode(display=False) as counter:
        out = Bert(c)(tokens(3, 6, 64), segments(c, (3, 3, 3), 6), None, places)
        loss(out, torch.zeros(9, dtype=torch.long)).backward()
    want = counter.get_total_flops()
    assert cost.bert_flops_per_step(c, batch=3, length=6, masked=2) == pytest.approx(want, rel=1e-3)
    assert cost.bert_flops_per_step(c, batch=3, length=6, masked=3) > 1.01 * want


def test_memory_holds_the_state_and_grows() -> None:
    """At least weights, gradients and Adam's two moments, 4 bytes each; more of anything takes more memory."""
    c = replace(MEGATRON, vocab=64, width=32, length=64)
    here = cost.bert_memory_bytes(c, batch=8, masked=4)
    assert here > 16 * cost.bert_parameters(c)
    assert cost.bert_memory_bytes(c, batch=16, masked=4) > here < cost.bert_memory_bytes(c, batch=8, masked=8)
    assert cost.bert_memory_bytes(c, batch=8, length=32, masked=4) < here
    for name, value in {"width": 64, "depth": 3, "vocab": 128, "ffn_ratio": 8.0}.items():
        assert cost.bert_memory_bytes(replace(c, **{name: value}), batch=8, masked=4) > here, name


# ---- µP ------------------------------------------------------------------------------------------------------------


SMALL = replace(MEGATRON, vocab=32, width=16)


def trained(c: Config, base: Config, table: str, steps: int = 3) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    model, small = Bert(c), Bert(base)
    plan = scaling_plan(small, model, parametrization=table, optimizer="adam")
    plan.initialize(model, small)
    optimizer, found, target = torch.optim.Adam(plan.param_groups(model, lr=2**-7)), [], tokens(1, 12, 2)[0]
    for _ in range(steps):
        value = loss(model(tokens(2, 5, 32), segments(c)), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(value.item())
    return model, found


@pytest.mark.parametrize("c", [SMALL, replace(SMALL, norm="post", embed_norm=True), replace(SMALL, tied=False)])
def test_at_the_base_width_it_is_sp_bit_for_bit(c: Config) -> None:
    """Readouts and queries at zero or not: the same weights after steps of Adam. And not at another width."""
    for zero in (True, False):
        c = replace(c, zero_readout=zero, zero_query=zero)
        same = [trained(replace(c, attention_scale=s), c, t)[0] for t, s in (("mup", attention_scale(8, 8)), ("sp", 0))]
        assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in same), strict=True))
    wide = replace(c, width=64)
    assert trained(wide, c, "mup")[1] != trained(wide, c, "sp")[1]


@pytest.mark.parametrize("tied", [True, False])
def test_the_three_tables_are_one_parametrization(tied: bool, double: None) -> None:
    """Tables 3, 8 and 9 give the same losses (Lemma J.1) at four times the base width; the negative: SP does not."""
    base = replace(SMALL, tied=tied)
    wide = replace(base, width=64, attention_scale=attention_scale(32, 8))
    found = {table: trained(wide, base, table, 6)[1] for table in ("mup", "mup_table8", "mup_table9", "sp")}
    for table in ("mup_table8", "mup_table9"):
        assert found[table] == pytest.approx(found["mup"], rel=1e-9)
    assert abs(found["sp"][-1] - found["mup"][-1]) > 1e-2
    assert found["mup"][-1] < found["mup"][0]


def test_roles() -> None:
    """Which column of Table 3 each tensor of the heads and embeddings is in; the tied readout behind 1/m."""
    wide = replace(SMALL, width=64, norm="post", embed_norm=True)
    plan = scaling_plan(Bert(replace(wide, width=16)), Bert(wide))
    embeddings = [f"stack.{x}.weight" for x in ("embed", "position", "segment", "embed_norm")]
    roles = {
        "input": (*embeddings, "transform.bias", "transform_norm.weight", "pooler.bias"),
        "hidden": ("transform.weight", "pooler.weight"),
        "output": ("readout.weight", "following.weight"),
        "scalar": ("readout.bias", "following.bias"),
    }
    assert {n: plan[n].role.value for ns in roles.values() for n in ns} == {n: r for r, ns in roles.items() for n in ns}
    assert plan["readout.weight"].multiplier == 1 / 4 and plan["readout.weight"].lr == 1


@pytest.mark.parametrize("table", ["sp", "mup"])
def test_depth_and_width_may_both_differ(table: str) -> None:
    """Table 6 transfers over both: deeper blocks scale as the base's do, in rates and init, and the model learns."""
    base, wide = replace(SMALL, ffn_ratio=1.0), replace(SMALL, width=64, depth=4, heads=4)
    plan = scaling_plan(lambda: Bert(base), lambda: Bert(wide), parametrization=table)
    assert plan["stack.blocks.3.up.weight"] == plan["stack.blocks.0.up.weight"]
    # the fan_in of down, d_ffn, grew 16-fold
    assert plan["stack.blocks.3.down.weight"].lr == (1.0 if table == "sp" else 1 / 16)
    _, found = trained(wide, base, table, 6)
    assert found[-1] < found[0]
    fresh = Bert(wide)
    plan.initialize(fresh, Bert(base))
    for block in fresh.stack.blocks:  # drawn by fan_in, and nothing is missing from that
        assert block.down.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)


WIDTHS = (128, 256, 512)  # the narrowest where the tied readout, E x, moves by more than the random part of E


def checked(parametrization: str, attention: str | None = None, **changes) -> CoordVerdict:
    """Of few tokens beside the narrowest d_head: queries cannot align with more keys than they have coordinates."""

    def build(width: int) -> nn.Module:
        scale = attention_scale(width // 2, WIDTHS[0] // 2, parametrization=attention or parametrization)
        more = {"zero_readout": True, "zero_query": True, "fused": False, **changes}
        return Bert(replace(MEGATRON, vocab=32, width=width, attention_scale=scale, **more))

    batch = (tokens(1, 5, 32), segments(MEGATRON, (3,)), padding([4], 5), torch.tensor([1, 3])), tokens(1, 3, 2)[0]
    frame = coord_check(build, WIDTHS, [batch], parametrization=parametrization, lr=2**-11, steps=3, seeds=2, loss=loss)
    return frame.verdict()


LOGITS = {f"stack.blocks.{i}.attention.logits" for i in range(2)}


@pytest.mark.parametrize("changes", [{}, {"norm": "post", "embed_norm": True}], ids=["pre", "post"])
def test_coordinate_check(changes: dict) -> None:
    """µP: everything is `ok`. SP: both heads' logits and the attention logits grow, the embeddings do not."""
    verdict = checked("mup", **changes)
    assert verdict.ok, str(verdict)
    assert {*LOGITS, "output", "output[1]", "readout", "pooler", "transform_norm", "stack.segment"} <= set(verdict)
    sp = checked("sp", **changes)
    assert {"output", "readout", "following", *LOGITS} <= {n for n, row in sp.items() if row["verdict"] == "grows"}
    assert sp["stack.embed"]["verdict"] == sp["stack.segment"]["verdict"] == "ok"


def test_coordinate_check_of_attention() -> None:
    """µP with SP's 1/sqrt(d) attention alone is caught by the attention logits."""
    assert checked("mup", "sp")["stack.blocks.0.attention.logits"]["verdict"] == "grows"
