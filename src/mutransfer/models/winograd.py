"""3x3 convolutions of small maps by Winograd's F(4x4, 3x3): a quarter of the multiplications.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). Each 4x4 tile of the output is
``A^T [(G w G^T) * (B^T x B)] A``, where x is the 6x6 tile of the input about it, so that a convolution is 36 matrix
products. What spreads x and gathers the result is a product with a small fixed matrix, whose time is that of memory:
it pays for many channels on small maps.

Letters: B batch, C and D channels in and out, H height and width, T = H / 4 tiles along it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.library import custom_op

TILE, TAPS = 4, 6  # of the output, of the input
LARGEST = 32  # H: on larger maps the memory's time is more than what the products save
LEAST = 64  # C and D: of fewer channels likewise
TILES = 512  # of output at a time: what is made on the way of more would leave the cache

_B = [  # B^T, G and A^T for the points 0, 1, -1, 2, -2 and infinity
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # of 24
_A = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

Matrices = Sequence[Tensor]  # for rows and for columns
_X_AND_W = "Tensor x_BxCxHxH, Tensor w_DxCx3x3"


class Conv3x3(nn.Conv2d):
    """``nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)``, faster on small maps on a CPU.

    There it differs by rounding: about 1e-5 of the largest output, ten times as much as torch's own does.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, 3, padding=1, bias=False)

    def forward(self, x_BxCxHxH: Tensor) -> Tensor:
        if pays(x_BxCxHxH, self.weight):
            return winograd(x_BxCxHxH, self.weight)
        return super().forward(x_BxCxHxH)


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `winograd` takes ``x`` and is the faster way."""
    is_float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    height, width = x.shape[2:]
    is_small = height == width <= LARGEST and height % TILE == 0 and min(weight.shape[:2]) >= LEAST
    return x.device.type == "cpu" and is_float32 and is_small


@custom_op("mutransfer::winograd", mutates_args=(), device_types="cpu", schema=f"({_X_AND_W}) -> Tensor")
def winograd(x_BxCxHxH: Tensor, w_DxCx3x3: Tensor) -> Tensor:
    """x [B, C, H, H], w [D, C, 3, 3] -> [B, D, H, H], channels-last: the convolution with one pixel of zeros around.

    An operator of its own, so that neither autograd nor a recorded step (`training/step.py`) keeps what is in between.
    """
    d, h = len(w_DxCx3x3), x_BxCxHxH.shape[2]
    spread, gather, kernel = _matrices(h)
    u_PxCxD = _kernel(kernel, w_DxCx3x3)
    y_BxDxHxH = _empty(x_BxCxHxH, d)
    for x, y in _parts(x_BxCxHxH, y_BxDxHxH):
        _gather(gather, _products(_spread(spread, x), u_PxCxD), y)
    return y_BxDxHxH


@custom_op(
    "mutransfer::winograd_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy_BxDxHxH, {_X_AND_W}) -> (Tensor, Tensor)",
)
def winograd_backward(dy_BxDxHxH: Tensor, x_BxCxHxH: Tensor, w_DxCx3x3: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and w, in the shapes and the memory format of `winograd`'s."""
    (d, c), h = w_DxCx3x3.shape[:2], x_BxCxHxH.shape[2]
    spread, gather, kernel = _matrices(h)
    u_PxDxC, du_PxCxD = _kernel(kernel, w_DxCx3x3).mT, x_BxCxHxH.new_zeros(TAPS**2, c, d)
    dx_BxCxHxH = _empty(x_BxCxHxH, c)
    for x, dx, dy in _parts(x_BxCxHxH, dx_BxCxHxH, dy_BxDxHxH):
        dy_TxPxMxD, v_TxPxMxC = _spread([m.mT for m in gather], dy), _spread(spread, x)
        for products in zip(v_TxPxMxC.mT.unbind(), dy_TxPxMxD.unbind(), strict=True):
            du_PxCxD.baddbmm_(*products)
        _gather([m.mT for m in spread], _products(dy_TxPxMxD, u_PxDxC), dx)
    dw_9xCxD = kernel.mT @ du_PxCxD.view(-1, c * d)
    return dx_BxCxHxH, dw_9xCxD.view(3, 3, c, d).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


@winograd.register_fake
def _(x_BxCxHxH: Tensor, w_DxCx3x3: Tensor) -> Tensor:
    return _empty(x_BxCxHxH, len(w_DxCx3x3))


@winograd_backward.register_fake
def _(dy_BxDxHxH: Tensor, x_BxCxHxH: Tensor, w_DxCx3x3: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(x_BxCxHxH, x_BxCxHxH.shape[1]), torch.empty_like(w_DxCx3x3, memory_format=torch.channels_last)


def _empty(x_BxCxHxH: Tensor, channels: int) -> Tensor:
    b, _, *size = x_BxCxHxH.shape
    return torch.empty(b, channels, *size, device=x_BxCxHxH.device, memory_format=torch.channels_last)


winograd.register_autograd(
    lambda ctx, dy: winograd_backward(dy, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def _parts(*images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    tiles = (images[0].shape[2] // TILE) ** 2
    return zip(*(x.split(max(1, TILES // tiles)) for x in images), strict=True)


def _kernel(matrix: Tensor, w_DxCx3x3: Tensor) -> Tensor:
    d, c = w_DxCx3x3.shape[:2]
    return (matrix @ w_DxCx3x3.permute(2, 3, 1, 0).reshape(9, c * d)).view(-1, c, d)


def _products(a_TxPxMxC: Tensor, b_PxCxD: Tensor) -> Tensor:
    out = a_TxPxMxC.new_empty(*a_TxPxMxC.shape[:3], b_PxCxD.shape[2])
    for a, into in zip(a_TxPxMxC.unbind(), out.unbind(), strict=True):
        torch.bmm(a, b_PxCxD, out=into)
    return out


def _spread(matrices: Matrices, x_BxCxHxH: Tensor) -> Tensor:
    """[B, C, H, H] -> [T, P = 6 * 6, M = T * B, C]: the tap (row, column) of each tile, rows of tiles first."""
    b, c, h, _ = x_BxCxHxH.shape
    rows, columns = matrices
    x_HxF = x_BxCxHxH.permute(2, 3, 0, 1).reshape(h, -1)
    x_RxHxF = (rows @ x_HxF).view(len(rows), h, b * c)
    return torch.bmm(columns.expand(len(rows), -1, -1), x_RxHxF).view(h // TILE, TAPS**2, h // TILE * b, c)


def _gather(matrices: Matrices, y_TxPxMxC: Tensor, out_BxCxHxH: Tensor) -> None:
    """The way back: [T, P, M, C] -> [B, C, H, H]."""
    rows, columns = matrices
    (b, c, h, _), r = out_BxCxHxH.shape, rows.shape[1]
    y_RxHxF = torch.bmm(columns.expand(r, -1, -1), y_TxPxMxC.view(r, r, -1))
    out_BxCxHxH.permute(2, 3, 0, 1).copy_((rows @ y_RxHxF.view(r, -1)).view(h, h, b, c))


@lru_cache
def _matrices(h: int) -> tuple[Matrices, Matrices, Tensor]:
    """What spreads x (of its rows, of its columns), what gathers y, and what spreads the kernel, for maps of H = ``h``.

    A row's index is (tile, tap), a column's (tap, tile): so the first tile's 36 taps lie together in memory.
    """
    tiles = h // TILE
    x_TxPxH, y_HxTxP = torch.zeros(tiles, TAPS, h + 2), torch.zeros(h, tiles, TAPS)
    for t in range(tiles):
        x_TxPxH[t, :, TILE * t : TILE * t + TAPS] = torch.tensor(_B)
        y_HxTxP[TILE * t : TILE * (t + 1), t] = torch.tensor(_A)
    x_TxPxH = x_TxPxH[:, :, 1:-1]  # beyond the edges are zeros
    g = torch.tensor(_G, dtype=torch.float64) / 24
    return (
        (x_TxPxH.flatten(0, 1), x_TxPxH.transpose(0, 1).flatten(0, 1)),
        (y_HxTxP.flatten(1), y_HxTxP.transpose(1, 2).flatten(1)),
        torch.kron(g, g).float(),
    )
