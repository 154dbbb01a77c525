"""The Transformer family: equal to its formulas, causal, the same in training and inference.

Equalities are judged in float64 to 1e-10 (float32, where it is used, to 1e-5); what must be the same computation, to
the last bit. Weights that start at zero are drawn here, or half of the model would go untested.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.models.transformer import Bert, Decoder, Dropout, EncoderDecoder
from mutransfer.models.transformer_config import NORMS, POSITIONS, Config
from mutransfer.training.step import Step
from tests.models import reference
from tests.models.tiny import (
    BASE,
    CONFIGS,
    EXACT,
    PUBLISHED,
    TINY,
    VOCAB,
    Kind,
    batch_of,
    built,
    loss_of,
    padding,
    tokens,
    updated,
)


def compared(model: nn.Module, ours: Tensor, slow: Callable[[dict[str, Tensor]], Tensor]) -> None:
    """Values, and gradients of all parameters through a random linear loss."""
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    theirs = slow(weights)
    torch.testing.assert_close(ours, theirs, **EXACT)
    direction = torch.randn_like(ours)
    got = torch.autograd.grad((ours * direction).sum(), list(model.parameters()))
    want = torch.autograd.grad((theirs * direction).sum(), list(weights.values()))
    for name, a, b in zip(weights, got, want, strict=True):
        assert b.abs().max() > 0, f"{name} does nothing"
        torch.testing.assert_close(a, b, **EXACT, msg=lambda text, name=name: f"gradient of {name}: {text}")


@pytest.mark.parametrize("name", CONFIGS)
def test_decoder_is_its_formulas(name: str, double: None) -> None:
    """Values and gradients equal the slow reference: norms, positions, multipliers, biases."""
    model = built(Decoder, CONFIGS[name])
    compared(model, model(tokens()), lambda w: reference.decoder(w, CONFIGS[name], tokens()))


def test_in_float32_too() -> None:
    """What is trained is float32: the same to 1e-5 as the formulas in float64."""
    model = built(Decoder, TINY)
    want = reference.decoder({name: p.double() for name, p in model.named_parameters()}, TINY, tokens())
    torch.testing.assert_close(model(tokens()).double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("norm", "positions"), [("pre", "sinusoidal"), ("post", "sinusoidal"), ("post", "relative")])
def test_encoder_decoder_is_its_formulas(norm: str, positions: str, fused: bool, double: None) -> None:
    """The decoder sees its own past, and the encoder's output without its padding."""
    c = replace(TINY, norm=norm, positions=positions, fused=fused)
    model, source, target, hidden = built(EncoderDecoder, c), tokens(2, 6), tokens(2, 4, seed=1), padding([4, 6], 6)
    ours = model(source, target, hidden)
    torch.testing.assert_close(model(source[:1, :4], target[:1])[0], ours[0], **EXACT)  # as if there were no padding
    compared(model, ours, lambda w: reference.encoder_decoder(w, c, source, target, hidden))


# ---- causality ----------------------------------------------------------------------------------------------------


def influenced(run: Callable[[Tensor], Tensor]) -> list[list[bool]]:
    """[S, T]: whether another token s changes any bit of logits[t]."""
    want, rows = run(tokens()), torch.arange(5)
    return [(run((tokens() + (rows == s)) % VOCAB) != want).any(-1).any(0).tolist() for s in range(5)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_no_token_sees_a_later_one(norm: str, positions: str, fused: bool) -> None:
    """logits[t] do not depend on token s for s > t: any leak makes the loss too good. And they do for s <= t."""
    model = built(Decoder, replace(TINY, norm=norm, positions=positions, fused=fused))
    assert influenced(model) == [[s <= t for t in range(5)] for s in range(5)]


def test_causality_of_the_family() -> None:
    """BERT sees everything (the negative); an encoder-decoder's target all of the source."""
    bert, both = built(Bert, TINY), built(EncoderDecoder, TINY)
    for run in (lambda rows: bert(rows)[0], lambda rows: both(rows, tokens(seed=1))):
        assert influenced(run) == [[True] * 5] * 5


# ---- training and inference ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_training_and_evaluation_give_the_same_logits(name: str, double: None) -> None:
    """A multiplier in one branch only made logits differ by m in public code. Bit for bit; without gradients, to
    1e-10: there relative positions may use the fused kernel.
    """
    model = built(Decoder, CONFIGS[name])
    want = model.train()(tokens())
    assert torch.equal(model.eval()(tokens()), want)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens()), want, **EXACT)


@pytest.mark.parametrize("pieces", [[1] * 6, [3, 1, 2], [1, 5]])
@pytest.mark.parametrize("name", CONFIGS)
def test_piece_by_piece_is_all_at_once(name: str, pieces: list[int], double: None) -> None:
    """With a cache: token by token, and in longer pieces, whose tokens must not see one another's future."""
    model, rows = built(Decoder, CONFIGS[name]), tokens(2, 6)
    cache = model.stack.new_cache(2)
    parts = [model(piece, cache) for piece in rows.split(pieces, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(rows), **EXACT)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("positions", ["sinusoidal", "relative"])
def test_translation_token_by_token(norm: str, positions: str, double: None) -> None:
    """With a padded source; the memory's keys are computed once and kept."""
    model = built(EncoderDecoder, replace(TINY, norm=norm, positions=positions))
    source, target, hidden = tokens(2, 6), tokens(2, 4, seed=1), padding([6, 3], 6)
    want = model(source, target, hidden)
    memory, cache = model.encoder(source, padding_BxT=hidden), model.decoder.new_cache(2)
    parts = [model.decode(memory, target[:, :1], hidden, cache)]
    nowhere = torch.full_like(memory, torch.nan)  # from now on only the cache is read
    parts += [model.decode(nowhere, target[:, t : t + 1], hidden, cache) for t in range(1, 4)]
    torch.testing.assert_close(torch.cat(parts, 1), want, **EXACT)


@pytest.mark.parametrize("name", CONFIGS)
def test_fused_is_unfused(name: str, double: None) -> None:
    """The kernel that never holds the logits computes the same; hooks see them only without it."""
    model = built(Decoder, replace(CONFIGS[name], fused=True)).requires_grad_(False)
    slow = Decoder(replace(CONFIGS[name], fused=False)).requires_grad_(False)
    slow.load_state_dict(model.state_dict())
    seen: list[Tensor] = []
    for module in (model, slow):
        module.stack.blocks[0].attention.logits.register_forward_hook(lambda m, args, out: seen.append(out))
    torch.testing.assert_close(model(tokens()), slow(tokens()), **EXACT)
    assert [x.shape for x in seen] == [(2, CONFIGS[name].heads, 5, 5)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("positions", ["sinusoidal", "relative"])
def test_bfloat16_is_close_to_float32(norm: str, positions: str) -> None:
    """Of the products' inputs and outputs each is rounded, by at most half of bfloat16's epsilon.

    The bound, stated beforehand: 6 products a block and the readout, 3 roundings each, independent of one another, so
    that they add up as squares: relative RMS error of the logits below sqrt(3 * 13) * eps / 2 = 2.4%. And not zero.
    """
    model = built(Decoder, Config(vocab=64, width=64, norm=norm, positions=positions, zero_readout=False))
    rows = tokens(4, 64, 64)
    want = model(rows)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        got = model(rows)
    error = ((got.float() - want).square().mean() / want.square().mean()).sqrt()
    assert got.dtype is torch.bfloat16
    assert 0 < error < math.sqrt(3 * 13) * torch.finfo(torch.bfloat16).eps / 2


@pytest.mark.parametrize("place", ["dropout", "inner_dropout"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_dropout_is_for_training_only(norm: str, fused: bool, place: str) -> None:
    """In evaluation it is off; in training no two passes are alike; the inner one reaches the attention weights."""
    c = replace(TINY, norm=norm, fused=fused, **{place: 0.3})
    model = built(Decoder, c)
    plain = Decoder(replace(c, **{place: 0.0}))
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(tokens()), plain(tokens()))
    assert not torch.equal(model.train()(tokens()), model(tokens()))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert torch.equal(model(tokens()), model(tokens())) == (place == "dropout")
    model.eval()
    assert torch.equal(model(tokens()), plain(tokens()))


def test_a_joint_embedding_is_one_weight() -> None:
    """Of the encoder, the decoder and, tied, the readout; without, each has its own."""
    for c, count in ((TINY, 3), (replace(TINY, joint=True, tied=True), 1)):
        model = EncoderDecoder(c)
        modules = model.encoder.embed, model.decoder.embed, model.readout.linear
        assert len({id(module.weight) for module in modules}) == count


# ---- cheap dropout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_rate_and_the_scale(p: float, dtype: torch.dtype) -> None:
    """Zeros with probability p, else 1 / (1 - p); five standard deviations of a million draws."""
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1001, 999, dtype=dtype))
    count = out.numel()
    assert abs((out == 0).double().mean().item() - p) < 5 * (p * (1 - p) / count) ** 0.5
    close = {"rel": 1e-4 if dtype is torch.float32 else 4e-3}
    assert out.dtype is dtype and out[out != 0].float().mean().item() == pytest.approx(1 / (1 - p), **close)


def test_elements_and_calls_are_independent() -> None:
    """Neighbours share a random number, and no bit of it; calls share none. The gradient has the same mask."""
    drop, x = Dropout(0.5), torch.ones(1 << 18, requires_grad=True)
    (out := drop(x)).sum().backward()
    assert torch.equal(x.grad, out.detach()) and not Dropout(1.0)(x).any()
    assert torch.equal(drop.eval()(x), x) and torch.equal(Dropout(0.0)(x), x)
    first, second = (out != 0).double(), (drop.train()(x) != 0).double()
    for other in (second, first.roll(1), first.roll(2), first.roll(3)):
        assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1].item()) < 5 / len(x) ** 0.5


# ---- config, replay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "pree"}, "unknown norm 'pree'. Did you mean 'pre'"),
        ({"positions": "sinusoid"}, "unknown positions 'sinusoid'. Did you mean 'sinusoidal'"),
        ({"activation": "gelo"}, "unknown activation 'gelo'. Did you mean 'gelu'"),
        ({"width": 10, "heads": 4}, "width 10 is no multiple of 4 heads"),
        ({"d_head": -2}, "d_head is -2, expected at least 0"),
        ({"ffn_ratio": 0.01}, "d_ffn is 0, expected at least 1"),
        *(({name: 0}, f"{name} is 0") for name in ("width", "vocab", "depth", "heads", "length")),
        ({"segments": -1}, "segments is -1"),
    ],
)
def test_a_bad_config_is_refused(changes: dict, words: str) -> None:
    """The message names the value and what would be right."""
    with pytest.raises(UserError, match=words):
        Config(**{"vocab": 5, "width": 8, **changes})


def test_another_width_has_another_head_size() -> None:
    """Whoever changes the width of a config gets that width's model: a d_head of 0 is not frozen at the first."""
    assert replace(TINY, width=32) == Config(**{**vars(TINY), "width": 32})
    assert Decoder(replace(TINY, width=32)).stack.blocks[0].attention.d_head == 16
    assert Decoder(replace(TINY, width=32, d_head=3)).stack.blocks[0].attention.qkv.weight.shape == (18, 32)


def test_what_has_no_place_is_refused() -> None:
    """Too long a sequence, all at once and piece by piece; segments."""
    model = Decoder(replace(TINY, positions="none", length=4))
    model(tokens(1, 4), cache := model.stack.new_cache(1))
    for rows, past in ((tokens(1, 5), None), (tokens(1, 1), cache)):
        with pytest.raises(UserError, match="5 tokens, but the model was built for length 4"):
            model(rows, past)
    with pytest.raises(UserError, match="there are segments, but the model was built without"):
        Bert(TINY)(tokens(), torch.zeros_like(tokens()))


PLACES = ("sinusoidal", "relative")
REPLAYED = {
    **{f"{norm}, {at}": (Decoder, {"norm": norm, "positions": at}) for norm in NORMS for at in PLACES},
    "published BERT": (Bert, vars(replace(PUBLISHED, vocab=BASE.vocab))),
}


@pytest.mark.parametrize(("kind", "changes"), REPLAYED.values(), ids=REPLAYED)
def test_the_replayed_step_is_autograds(kind: Kind, changes: dict) -> None:
    """Bit for bit, dropout included: the fast step is what every run takes."""
    found = []
    for is_replayed in (True, False):
        torch.manual_seed(0)
        model = kind(Config(**{**vars(BASE), **changes, "dropout": 0.1}))
        optimizer, batches = torch.optim.AdamW(model.parameters(), fused=True), [batch_of(model, i) for i in range(5)]
        step = Step(partial(loss_of, model), optimizer)
        losses = [step(*b) if is_replayed else updated(optimizer, loss_of(model, *b)) for b in batches]
        assert step.is_replayed == is_replayed
        found.append([*losses, *(p.detach() for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
