"""The label-smoothed loss of fairseq: of logits, and of what a readout reads, where it never has all logits in memory.

Letters: R rows (target tokens of a batch), V vocabulary, N width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mutransfer.data.pairs import PAD

LOGITS = 1 << 20
"""That `smoothed_readout_loss` makes at a time: 4 MiB, which stay in a core's cache."""


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


# One operator for whoever records a step (`mutransfer.training.program`): the number of padded rows may change.
_LIBRARY = torch.library.Library("mutransfer", "DEF")
_LIBRARY.define(
    "smoothed_readout_loss(Tensor x, Tensor weight, Tensor targets, float smoothing) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.impl("smoothed_readout_loss", _readout_loss, "CompositeExplicitAutograd")
