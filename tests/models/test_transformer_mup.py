"""µP of the Transformers: 1/d attention, three tables that are one, depth, zero inits, the coordinate check."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mutransfer import attention_scale, coord_check, scaling_plan
from mutransfer.models.transformer import Bert, Decoder, EncoderDecoder
from mutransfer.models.transformer_config import NORMS, Config
from mutransfer.results.coordinates import CoordVerdict
from tests.models.tiny import BASE, MEGATRON, TINY, Kind, bert_loss, losses, padding, scaled, segments, tokens

TABLES = ("mup", "mup_table8", "mup_table9")  # Tables 3, 8, 9
SMALL = replace(MEGATRON, vocab=32, width=16)
DECODERS = {f"{norm}, tied {tied}": replace(BASE, norm=norm, tied=tied) for norm in NORMS for tied in (True, False)}
CASES: dict[str, tuple[Kind, Config]] = {
    **{name: (Decoder, c) for name, c in DECODERS.items()},
    "bert": (Bert, SMALL),
    "bert, post": (Bert, replace(SMALL, norm="post", embed_norm=True)),
    "bert, untied": (Bert, replace(SMALL, tied=False)),
}


def test_one_over_d_attention_is_one_over_sqrt_d_at_the_base_only() -> None:
    """alpha_attn * sqrt(base d_head) / d_head: bit for bit SP's logits at the base head size, and nowhere else."""

    def logits(width: int, scale: float) -> Tensor:
        torch.manual_seed(0)
        model = Decoder(replace(TINY, width=width, attention_scale=scale))
        return model(tokens())

    base = TINY.width // TINY.heads
    for width in (4, 8, 16, 32):
        d = width // TINY.heads
        one_over_d, sp = logits(width, attention_scale(d, base)), logits(width, 0.0)
        assert torch.equal(logits(width, attention_scale(d, base, parametrization="sp")), sp)
        assert torch.equal(one_over_d, sp) == (d == base)
        model = Decoder(replace(TINY, width=width, attention_scale=attention_scale(d, base, alpha_attn=3.0)))
        assert model.stack.blocks[0].attention.scale == pytest.approx(3 * math.sqrt(base) / d)


@pytest.mark.parametrize(("kind", "base"), CASES.values(), ids=CASES)
def test_the_three_tables_are_one_parametrization(kind: Kind, base: Config, double: None) -> None:
    """Tables 3, 8 and 9 give the same losses under Adam (Lemma J.1), tied too, at four times the base width.

    The negative: SP starts from another loss (tied: its readout is not shrunk) or leaves it.
    """
    if kind is Decoder and base.tied:
        base = replace(base, embed_std=base.width**-0.5)
    wide = replace(base, width=64, attention_scale=attention_scale(32, 8))
    found = {table: losses(*scaled(kind, wide, base, table)) for table in (*TABLES, "sp")}
    for table in TABLES:
        assert found[table] == pytest.approx(found["mup"], rel=1e-9)
        assert found[table][-1] < 0.95 * found[table][0]
    assert abs(found["sp"][-1] - found["mup"][-1]) > 1e-2


@pytest.mark.parametrize(
    ("kind", "c", "table"),
    [(*case, table) for case in CASES.values() for table in TABLES[: 3 if case[0] is Decoder else 1]],
)
def test_at_the_base_width_it_is_sp_bit_for_bit(kind: Kind, c: Config, table: str) -> None:
    """The readout and queries at zero or not: the same weights after steps of Adam. And not at another width."""
    for zero in (True, False):
        c, trained = replace(c, zero_readout=zero, zero_query=zero), []
        for name, scale in ((table, attention_scale(8, 8)), ("sp", 0.0)):
            model, groups = scaled(kind, replace(c, attention_scale=scale), c, name)
            losses(model, groups, 3)
            trained.append(model)
        pairs = zip(trained[0].parameters(), trained[1].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    mup, sp = (losses(*scaled(kind, replace(c, width=64), c, name), 2) for name in (table, "sp"))
    assert mup != sp


DEEPER = [*((Decoder, table) for table in ("sp", *TABLES)), (Bert, "sp"), (Bert, "mup"), (EncoderDecoder, "mup")]


@pytest.mark.parametrize(("kind", "table"), DEEPER)
def test_width_depth_and_the_share_of_the_network_may_all_differ(kind: type[nn.Module], table: str) -> None:
    """Table 6 transfers over all. Deeper blocks scale as the base's do, and a model of them learns."""
    base, wide = replace(BASE, norm="post", ffn_ratio=1.0), replace(BASE, norm="post", width=64, depth=5, heads=4)
    plan = scaling_plan(lambda: kind(base), lambda: kind(wide), parametrization=table)
    same_depth = scaling_plan(lambda: kind(replace(base, depth=5)), lambda: kind(wide), parametrization=table)
    assert dict(plan) == dict(same_depth)
    for name in plan:
        head, dot, tail = name.partition(".blocks.")
        if dot:
            assert plan[name] == plan[f"{head}.blocks.0.{tail.partition('.')[2]}"]
    model, small = kind(wide), kind(base)
    plan.initialize(model, small)
    rates = {id(p): group["lr"] for group in plan.param_groups(model, lr=1.0) for p in group["params"]}
    for block in (model.decoder if kind is EncoderDecoder else model.stack).blocks:
        for part, fan_in, grown in ((block.up, 64, 4), (block.down, 256, 16)):  # drawn by fan_in, nothing is missing
            assert part.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
            assert rates[id(part.weight)] == (1.0 if table == "sp" else 1 / grown)
    if kind is not EncoderDecoder:
        found = losses(*scaled(kind, wide, base, table))
        assert found[-1] < found[0]


def test_roles() -> None:
    """Which column of Table 3 each tensor is in; a table of relative positions only where the heads grow."""
    base = replace(TINY, positions="relative")
    grown = {"width": 32}, {"width": 32, "heads": 8, "d_head": 4}
    for growth, distance in zip(grown, ("scalar", "input"), strict=True):
        wide = replace(base, **growth)
        plan = scaling_plan(lambda: Decoder(base), lambda wide=wide: Decoder(wide))
        found = {name.replace("stack.", "").replace("blocks.0.", ""): plan[name].role.value for name in plan}
        hidden = {"attention.qkv.weight", "attention.out.weight", "up.weight", "down.weight"}
        assert {name for name, role in found.items() if role == "hidden" and "blocks" not in name} == hidden
        assert found["readout.linear.weight"] == "output" and found["embed.weight"] == "input"
        assert found["distance.weight"] == distance
        assert {found[name] for name in ("norm.weight", "attention.qkv.bias", "up.bias", "down.bias")} == {"input"}


def test_roles_of_bert() -> None:
    """Which column each tensor of the heads and embeddings is in; the tied readout behind 1/m."""
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


def test_starts_at_zero() -> None:
    """App. D.2: readout and queries, and nothing else that is a matrix; a tied readout is an embedding, never zero."""
    c = replace(TINY, zero_readout=True, zero_query=True)
    model = Decoder(c)
    queries, others = model.stack.blocks[1].attention.qkv.weight.split([c.width, 2 * c.width])
    assert not queries.any() and others.all()
    assert not model(tokens()).any()
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1 and not p.any()}
    assert matrices == {"readout.linear.weight"}
    assert Decoder(replace(c, tied=True)).readout.linear.weight.all()


def test_init_stds() -> None:
    """Hidden matrices 1/sqrt(fan_in) times init_mult, the embedding embed_std at every width (App. B.1)."""
    for width in (64, 256):
        c = replace(TINY, vocab=512, width=width, positions="learned", length=64, init_mult=0.5, embed_std=0.3)
        model = Decoder(c)
        block = model.stack.blocks[0]
        std = {name: p.std().item() for name, p in model.named_parameters() if p.ndim > 1}
        assert std["stack.embed.weight"] == pytest.approx(0.3, rel=0.05)
        assert std["stack.position.weight"] == pytest.approx(0.3, rel=0.05)
        assert std["readout.linear.weight"] == pytest.approx(width**-0.5, rel=0.05)
        for linear in (block.attention.qkv, block.attention.out, block.up, block.down):
            assert linear.weight.std().item() == pytest.approx(0.5 * linear.in_features**-0.5, rel=0.05)
    bert = Bert(replace(MEGATRON, vocab=512, width=256, length=64, segments=8, embed_std=0.3, init_mult=0.5))
    drawn = {"stack.embed": 0.3, "stack.position": 0.3, "stack.segment": 0.3, "transform": 0.5 / 16, "pooler": 0.5 / 16}
    for name, std in {**drawn, "readout": 0.3, "following": 1 / 16}.items():
        part = bert.get_submodule(name)
        assert part.weight.std().item() == pytest.approx(std, rel=0.15 if name == "following" else 0.05), name
        assert name in {"stack.embed", "stack.position", "stack.segment"} or not part.bias.any()
    zero = Bert(replace(SMALL, zero_readout=True, tied=False))
    assert not any(p.any() for part in (zero.readout, zero.following) for p in part.parameters())


def test_a_tied_readout_has_one_weight() -> None:
    """Moved once, and read behind a multiplier of 1/m in µP (Table 8's form)."""
    model, groups = scaled(Decoder, replace(BASE, tied=True, width=64), replace(BASE, tied=True), "mup")
    assert sum(p is model.stack.embed.weight for group in groups for p in group["params"]) == 1
    torch.testing.assert_close(model.readout.linear.weight, model.stack.embed.weight / 4)


# widths; the narrowest BERT is one whose tied readout, E x, moves by more than the random part of E
CHECKED: dict[str, tuple[Kind, dict, tuple[int, ...], float]] = {
    **{norm: (Decoder, {"norm": norm}, (64, 128, 256), 2**-9) for norm in NORMS},
    "bert, pre": (Bert, vars(SMALL), (128, 256, 512), 2**-11),
    "bert, post": (Bert, {**vars(SMALL), "norm": "post", "embed_norm": True}, (128, 256, 512), 2**-11),
}
LOGITS = {f"stack.blocks.{i}.attention.logits" for i in range(2)}


def checked(case: str, parametrization: str, attention: str = "") -> CoordVerdict:
    """Of few tokens beside the narrowest d_head: queries cannot align with more keys than they have coordinates."""
    kind, changes, widths, lr = CHECKED[case]
    c = Config(**{"vocab": 32, "heads": 2, "length": 8, **changes, "width": 2, "fused": False})
    c = replace(c, zero_readout=True, zero_query=True)

    def build(width: int) -> nn.Module:
        scale = attention_scale(width // 2, widths[0] // 2, parametrization=attention or parametrization)
        return kind(replace(c, width=width, attention_scale=scale))

    rows, loss = tokens(1, 5, 32), None
    batch: tuple = (rows[:, :-1], rows[:, 1:])
    if kind is Bert:
        batch, loss = ((rows, segments(c, (3,)), padding([4], 5), torch.tensor([1, 3])), tokens(1, 3, 2)[0]), bert_loss
    if (parametrization, attention) != ("mup", ""):
        widths = widths[:2]  # to see it fail
    options = {"parametrization": parametrization, "lr": lr, "steps": 2, "seeds": 2, "loss": loss}
    return coord_check(build, widths, [batch], **options).verdict()


@pytest.mark.parametrize("case", CHECKED)
def test_coordinate_check(case: str) -> None:
    """µP: everything is `ok`. SP: the logits and the attention logits grow, the embedding does not.

    And µP with SP's 1/sqrt(d) attention alone is caught by the attention logits.
    """
    verdict = checked(case, "mup")
    assert verdict.ok, str(verdict)
    is_bert = case.startswith("bert")
    own = {"output[1]", "readout", "pooler", "transform_norm", "stack.segment"} if is_bert else {"stack.blocks.1.down"}
    assert {*LOGITS, *own, "output", "stack.embed"} <= set(verdict)
    sp = checked(case, "sp")
    grows = {"output", *LOGITS} | ({"readout", "following"} if is_bert else set())
    assert grows <= {name for name, row in sp.items() if row["verdict"] == "grows"}
    assert {sp[name]["verdict"] for name in ("stack.embed", "stack.segment") if name in sp} == {"ok"}
    assert checked(case, "mup", "sp")["stack.blocks.0.attention.logits"]["verdict"] == "grows"
