"""Translation as a task: pairs of sentences in batches by tokens, the loss of fairseq, and BLEU of a beam search.

The label-smoothed loss is that of logits, or of what a readout reads, where it never has all logits in memory.

Letters: N pairs, B of a batch, S source tokens, T target tokens (the end of a sentence is one of them), V vocabulary, R
rows (target tokens of a batch), N width where a readout is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.data.pairs import EOS, PAD
from mutransfer.errors import UserError
from mutransfer.models.beam import beam_search
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.training.task import Task

if TYPE_CHECKING:
    from mutransfer.data.pairs import PairDataset, Side

LOGITS = 1 << 20  # that `smoothed_readout_loss` makes at a time: 4 MiB, which stay in a core's cache


def smoothed_cross_entropy(logits_RxV: Tensor, targets_R: Tensor, smoothing: float) -> Tensor:
    """Mean label-smoothed cross-entropy (nats) of the targets that are not `PAD`; float32.

    With e = ``smoothing``, of one target y: -(1 - e) log p_y - e / (V - 1) * sum over c != y of log p_c; the sum over
    the targets is divided by their number. This is what fairseq 0.12 does without ``--sentence-avg``
    (criterions/label_smoothed_cross_entropy.py; older versions spread e over all V, as torch does).
    """
    log_p_RxV = logits_RxV.log_softmax(-1, dtype=torch.float32)
    target, others = _label(smoothing, logits_RxV.shape[1])
    loss_R = -target * log_p_RxV.gather(1, targets_R[:, None])[:, 0] - others * log_p_RxV.sum(1)
    is_real_R = targets_R != PAD
    return loss_R @ (is_real_R / is_real_R.sum())


def smoothed_readout_loss(x_RxN: Tensor, weight_VxN: Tensor, targets_R: Tensor, smoothing: float) -> Tensor:
    """`smoothed_cross_entropy` of the logits ``x @ weight.T``, in the precision of `torch.autocast`.

    A few logits at a time: their loss and their part of both gradients, then the next. All passes over them but the
    first are in the cache, and on a CPU rows of padding are left out.
    """
    return _ReadoutLoss.apply(x_RxN, weight_VxN, targets_R, smoothing)


def _label(smoothing: float, vocab: int) -> tuple[float, float]:
    """What the target has above all others, and what these have."""
    others = smoothing / (vocab - 1)
    return 1 - smoothing - others, others


class _ReadoutLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_RxN: Tensor, weight_VxN: Tensor, targets_R: Tensor, smoothing: float) -> Tensor:
        kind = x_RxN.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VxN.dtype
        with torch.autocast(kind, enabled=False):
            loss, *gradients = torch.ops.mutransfer.smoothed_readout_loss(
                x_RxN.to(dtype), weight_VxN.to(dtype), targets_R, smoothing
            )
        ctx.save_for_backward(*gradients)
        ctx.dtypes = x_RxN.dtype, weight_VxN.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_RxN, weight_VxN = ((g * gradients[0]).to(t) for g, t in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return x_RxN, weight_VxN, None, None


def _readout_loss(
    x_RxN: Tensor, weight_VxN: Tensor, targets_R: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients by x and weight (float32)."""
    vocab = len(weight_VxN)
    target, others = _label(smoothing, vocab)
    is_real_R, every_x_RxN = targets_R != PAD, x_RxN
    count = is_real_R.sum()
    if x_RxN.is_cpu:  # elsewhere their number is not known to the host
        rows_R = is_real_R.nonzero()[:, 0]
        x_RxN, targets_R, is_real_R = (t.index_select(0, rows_R) for t in (x_RxN, targets_R, is_real_R))
    weight_Rx1 = (is_real_R / count)[:, None]
    loss = torch.zeros((), device=x_RxN.device)
    x_gradient = torch.empty_like(x_RxN)
    weight_gradient = torch.zeros_like(weight_VxN, dtype=torch.float32)
    size = min(max(LOGITS // vocab, 1) if x_RxN.is_cpu else len(x_RxN), len(x_RxN))
    every_logit, every_p, every_half = (
        torch.empty(size, vocab, device=x_RxN.device, dtype=t) for t in (torch.float32, torch.float32, x_RxN.dtype)
    )
    for start in range(0, len(x_RxN), size):
        part = slice(start, start + size)
        x, y, weight = x_RxN[part], targets_R[part, None], weight_Rx1[part]
        logits, p, half = (buffer[: len(x)] for buffer in (every_logit, every_p, every_half))
        if x.dtype is torch.float32:
            torch.mm(x, weight_VxN.T, out=logits)
        else:
            logits.copy_(torch.mm(x, weight_VxN.T, out=half))
        torch.softmax(logits, -1, out=p)
        log_sum = logits.amax(-1, True) - p.amax(-1, True).log()  # of the exponentials; cheaper than torch's own
        each = (target + others * vocab) * log_sum - target * logits.gather(1, y) - others * logits.sum(-1, True)
        loss += (each * weight).sum()
        # the gradient of a row is p - (its smoothed label)
        gradient = p.sub_(others).scatter_add_(1, y, torch.full_like(weight, -target)).mul_(weight)
        if x.dtype is torch.float32:
            weight_gradient.addmm_(gradient.T, x)
        else:
            gradient = half.copy_(gradient)
            weight_gradient += gradient.T @ x
        torch.mm(gradient, weight_VxN, out=x_gradient[part])
    if len(x_RxN) < len(every_x_RxN):
        x_gradient = torch.zeros_like(every_x_RxN).index_copy_(0, rows_R, x_gradient)
    return loss, x_gradient, weight_gradient


# One operator for whoever records a step (`mutransfer.training.step`): the number of padded rows may change.
_LIBRARY = torch.library.Library("mutransfer", "DEF")
_ARGUMENTS = "Tensor x, Tensor weight, Tensor targets, float smoothing"
_LIBRARY.define(f"smoothed_readout_loss({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
_LIBRARY.impl("smoothed_readout_loss", _readout_loss, "CompositeExplicitAutograd")


MULTIPLE = 8  # of which the number of a batch's pairs is one, where it is not less (fairseq's default)
EVAL_TOKENS = 4096


class Translation(Task):
    """Learn p(target | source) of sentences.

    A batch is (source [B, S], decoder input [B, T], target [B, T]), int64. Source and target end in `EOS`; the input is
    the target a place later, behind an `EOS`, as in fairseq. All three are padded on the right. fairseq pads sources on
    the left, but counts positions from the first token; ours are counted from the first place. So on the right every
    token has the position that it has there, and padding, which attention and loss leave out, changes nothing.

    length: of the longest sentence, its `EOS` counted. Longer pairs of the train part are left out, as fairseq does;
        ``skipped`` says how many. `UserError` if none is left, or if the valid part has a longer one.
    smoothing: of the labels, in training (`smoothed_cross_entropy`).
    multiple: lengths are padded to multiples of it, so that batches have fewer shapes; 1 is fairseq's.
    """

    has_equal_batches = False

    def __init__(self, data: PairDataset, length: int, *, smoothing: float = 0.1, multiple: int = 1) -> None:
        self.data, self._length, self._smoothing, self._multiple = data, length, smoothing, multiple
        parts = (data.pairs(part) for part in ("train", "valid"))
        self._train, self._valid = ((_Sentences(part.source), _Sentences(part.target)) for part in parts)
        self._kept = np.flatnonzero((longer := _longer(self._train)) <= length)  # rows of the train part
        self.count = len(self._kept)
        self.skipped = len(longer) - self.count
        if not self.count:
            raise UserError(f"none of the {self.skipped} pairs to train on is within {length} tokens; raise the limit.")
        if (longest := _longer(self._valid).max()) > length:
            raise UserError(f"a pair of the valid part has {longest} tokens, but the limit is {length}; raise it.")

    def to(self, device: torch.device) -> None:
        for side in (*self._train, *self._valid):
            side.to(device)

    def epoch(
        self, batch: int, generator: torch.Generator, done: int = 0, end: int | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Every pair once, in batches of at most ``batch`` tokens: the larger of B x S and B x T, padding included.

        The pairs are permuted, sorted by source length, then target length, and cut where a batch is full (`cuts`); the
        batches come in random order. fairseq cuts once and permutes the batches of each epoch; here every epoch is cut
        from a permutation of its own, so that pairs of equal length meet others.
        """
        order_N = self._kept[torch.randperm(self.count, generator=generator).numpy()]
        source_N, target_N = (side.lengths[order_N] for side in self._train)
        order_N = order_N[np.lexsort((target_N, source_N))]
        groups = np.split(order_N, cuts(self._padded(_longer(self._train)[order_N]), batch)[:-1])
        order = torch.randperm(len(groups), generator=generator).tolist()
        return (self._batch(self._train, groups[i]) for i in islice(order, done, end))

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return (self._batch(self._train, self._kept[rows]) for rows in rows_SxB.numpy())

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        source_BxS, input_BxT, target_BxT = batch
        if isinstance(model, EncoderDecoder) and model.decoder.c.fused:
            hidden_BxTxN = model.hidden(source_BxS, input_BxT, source_BxS == PAD)
            scaled_RxN, weight_VxN = model.readout.factors(hidden_BxTxN.flatten(0, 1))
            return smoothed_readout_loss(scaled_RxN, weight_VxN, target_BxT.flatten(), self._smoothing)
        logits_BxTxV = model(source_BxS, input_BxT, source_BxS == PAD)  # where hooks see them
        return smoothed_cross_entropy(logits_BxTxV.flatten(0, 1), target_BxT.flatten(), self._smoothing)

    def scores(self, model: nn.Module) -> Iterator[tuple[float, float, float]]:
        """Of the valid part, since runs are selected by it: losses without smoothing (nats a target token), and target
        tokens that are the likeliest after those before them."""
        for rows_B in _by_size(_longer(self._valid), max(EVAL_TOKENS, self._length)):
            source_BxS, input_BxT, target_BxT = self._batch(self._valid, rows_B)
            logits = model(source_BxS, input_BxT, source_BxS == PAD).flatten(0, 1).float()
            targets, is_real = target_BxT.flatten(), target_BxT.flatten() != PAD
            loss = float(F.cross_entropy(logits, targets, ignore_index=PAD, reduction="sum"))
            yield loss, int(((logits.argmax(-1) == targets) & is_real).sum()), int(is_real.sum())

    def _padded(self, lengths: Any) -> Any:
        """What ``lengths`` are padded to."""
        return np.minimum(-(-lengths // self._multiple) * self._multiple, self._length)

    def _batch(self, sides: Sequence[_Sentences], rows_B: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        widths = [int(self._padded(side.lengths[rows_B].max())) for side in sides]
        source_BxS, target_BxT = (side.padded(rows_B, width) for side, width in zip(sides, widths, strict=True))
        input_BxT = F.pad(target_BxT[:, :-1], (1, 0), value=EOS).masked_fill(target_BxT == PAD, PAD)
        return source_BxS, input_BxT, target_BxT


class _Sentences:
    """The sentences of a side, an `EOS` after each; ``lengths`` count it."""

    def __init__(self, side: Side) -> None:
        self._tokens, self._ends, self._starts = side.tokens, side.ends, F.pad(side.ends[:-1], (1, 0))
        self.lengths = (self._ends - self._starts + 1).numpy()

    def to(self, device: torch.device) -> None:
        self._tokens, self._starts, self._ends = (x.to(device) for x in (self._tokens, self._starts, self._ends))

    def padded(self, rows_B: np.ndarray, width: int) -> Tensor:
        """int64 [B, width]: those sentences, `PAD` after each."""
        rows = torch.from_numpy(rows_B).to(self._tokens.device)
        place_BxT = self._starts[rows, None] + torch.arange(width, device=rows.device)
        tokens_BxT = self._tokens[place_BxT.clamp(max=len(self._tokens) - 1)].long()
        end_Bx1 = self._ends[rows, None]
        return tokens_BxT.masked_fill(place_BxT == end_Bx1, EOS).masked_fill(place_BxT > end_Bx1, PAD)


def _longer(sides: Sequence[_Sentences]) -> np.ndarray:
    """[N]: the length of each pair's longer sentence."""
    return np.maximum(*(side.lengths for side in sides))


def _by_size(sizes_N: np.ndarray, limit: int) -> list[np.ndarray]:
    """The rows of batches of like size (`cuts`)."""
    order_N = np.argsort(sizes_N, kind="stable")
    return np.split(order_N, cuts(sizes_N[order_N], limit)[:-1])


def cuts(sizes_N: np.ndarray, limit: int) -> list[int]:
    """Where consecutive examples of these sizes are cut into batches: the end of each batch.

    A batch takes examples while (their number) x (the largest size) is within ``limit``; of `MULTIPLE` or more, it
    leaves the last ones to the next batch, so that their number is a multiple of it (fairseq's ``batch_by_size``).
    Raises `UserError` for an example larger than ``limit``.
    """
    if len(sizes_N) and sizes_N.max() > limit:
        raise UserError(f"a batch has at most {limit} tokens, but a sentence has {sizes_N.max()}; use larger batches.")
    ends, start = [], 0
    while start < len(sizes_N):
        window = sizes_N[start : start + limit // int(sizes_N[start])]
        tokens = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
        number = int(np.searchsorted(tokens, limit, side="right"))
        start += number if number < MULTIPLE else number - number % MULTIPLE
        ends.append(start)
    return ends


def translate(
    model: EncoderDecoder,
    data: PairDataset,
    part: str = "test",
    *,
    batch: int = 4096,
    count: int | None = None,
    **search: Any,
) -> list[str]:
    """The best translation that `beam_search` finds of each source sentence of ``part``, in their order.

    batch: source tokens that are searched at a time, padding included. count: only the first so many sentences.
    search: for `beam_search`. An empty text where the model gives no numbers. Raises `UserError` for a source that is
    longer than a batch, or than the model's sequences.
    """
    sources = _Sentences(data.pairs(part).source)
    sources.to(next(model.parameters()).device)
    texts: dict[int, str] = {}
    for rows_B in _by_size(sources.lengths[:count], batch):
        source_BxS = sources.padded(rows_B, int(sources.lengths[rows_B].max()))
        hypotheses = beam_search(model, source_BxS, source_BxS == PAD, **search)
        texts |= {i: data.decode(best[0].tokens) if best else "" for i, best in zip(rows_B, hypotheses, strict=True)}
    return [texts[row] for row in range(len(texts))]


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """(BLEU in [0, 100] of the corpus, the signature of how it was computed), by sacrebleu; as many of each."""
    from sacrebleu.metrics import BLEU  # few runs need it

    if len(hypotheses) != len(references):
        raise UserError(f"there are {len(hypotheses)} translations, but {len(references)} references.")
    metric = BLEU(force=True)  # no warning for each run where the text is tokenized: it is compared as it is
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return score, str(metric.get_signature())
