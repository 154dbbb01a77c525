"""(g) One training step of the Transformer against large matrix products, and against the usual loop with `mup`.

Run as ``python -m benchmarks.transformer WIDTHS SECONDS`` in the environment of a sweep's worker; prints JSON. Two
blocks, 4 heads, batch 16, length 128, vocabulary 256, Adam, pre-LN; one thread; random tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mup import MuAdam, MuReadout, set_base_shapes
from torch import Tensor, nn

from benchmarks.timing import answer, in_worker, medians
from mutransfer.data import TokenDataset
from mutransfer.models.transformer import Decoder, sinusoids
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale, scaling_plan
from mutransfer.training.flops import flops_per_step
from mutransfer.training.step import Step
from mutransfer.training.task import NextToken

BATCH, LENGTH, VOCAB, HEADS, BASE = 16, 128, 256, 4, 32
LARGE = 2048  # of the matrices whose rate is the machine's
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def config(width: int) -> Config:
    scale = attention_scale(width // HEADS, BASE // HEADS, parametrization="mup")
    return Config(vocab=VOCAB, width=width, heads=HEADS, length=LENGTH, attention_scale=scale)


class Usual(nn.Module):
    """The same model as users of `mup` write it: torch's layers and a `MuReadout`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.register_buffer("table", sinusoids(LENGTH, width))
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 4 * width, dropout=0.0, activation="relu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.readout = MuReadout(width, VOCAB, bias=False, readout_zero_init=True)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.readout(self.layers(self.embed(tokens) + self.table, self.mask, is_causal=True))


def ours(width: int, task: NextToken, precision: str) -> Callable[[Tensor], None]:
    """A step of a sweep's worker."""
    torch.manual_seed(0)
    model, base = Decoder(config(width)), Decoder(config(BASE))
    plan = scaling_plan(base, model, parametrization="mup", optimizer="adam")
    plan.initialize(model, base)

    def compute(rows: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            return task.loss(model, rows)

    step = Step(compute, torch.optim.Adam(plan.param_groups(model, lr=2.0**-9), fused=True))
    return lambda rows: (step(rows), None)[1]


def eager(model: nn.Module, optimizer: torch.optim.Optimizer, windows: Tensor) -> Callable[[Tensor], None]:
    """The textbook loop."""

    def step(rows: Tensor) -> None:
        tokens = windows[rows].long()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()

    return step


def usual(width: int, windows: Tensor) -> Callable[[Tensor], None]:
    torch.manual_seed(0)
    model = Usual(width)
    set_base_shapes(model, Usual(BASE), delta=Usual(2 * BASE))
    return eager(model, MuAdam(model.parameters(), lr=2.0**-9), windows)


def products(dtype: torch.dtype) -> Callable[[Tensor], None]:
    a, b = torch.randn(LARGE, LARGE).to(dtype), torch.randn(LARGE, LARGE).to(dtype)
    return lambda rows: (a @ b, None)[1]


def measure_width(width: int, seconds: float) -> dict[str, Any]:
    """Milliseconds a step of each kind, interleaved one by one, medians; and the rates of large products."""
    tokens = torch.randint(VOCAB, (1 << 20,)).numpy()
    data = TokenDataset.from_arrays(
        "random", "random", is_real=False, vocab=VOCAB, tokenizer="bytes", train=tokens, test=tokens[:1000]
    )
    task = NextToken(data, LENGTH)
    windows = data.windows("train", LENGTH)
    model = Decoder(config(width))
    kinds = {
        "float32": ours(width, task, "float32"),
        "bfloat16": ours(width, task, "bfloat16"),
        "eager": eager(model, torch.optim.Adam(model.parameters(), lr=2.0**-9), windows),
        "usual": usual(width, windows),
        **{f"{name} products": products(dtype) for name, dtype in PRECISIONS.items()},
    }
    ms = medians(kinds, seconds, lambda: (torch.randint(task.count, (BATCH,)),))
    flops = flops_per_step(lambda: Decoder(config(width)), lambda: (torch.zeros(BATCH, LENGTH, dtype=torch.int64),))
    return {"width": width, "flops": flops, "ms": ms}


def measure(widths: list[int], seconds: float) -> list[dict[str, Any]]:
    """`measure_width` of each width, in a process like a sweep's worker."""
    return in_worker("benchmarks.transformer", widths, seconds)


def rows(widths: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of the report."""
    for found in measure(widths, seconds):
        ms, width = found["ms"], found["width"]
        for kind, name in (("float32", "float32"), ("bfloat16", "bfloat16"), ("eager", "float32")):
            rate, most = found["flops"] / ms[kind] / 1e6, 2 * LARGE**3 / ms[f"{name} products"] / 1e6
            yield {
                "what": f"width {width}, {'a plain eager loop' if kind == 'eager' else name}",
                "ours": f"{rate:.0f} GFLOP/s ({ms[kind]:.1f} ms a step)",
                "reference": f"{most:.0f} GFLOP/s of large products",
                "ratio": rate / most,
            }
        for name in PRECISIONS:
            yield {
                "what": f"width {width}, {name}, over mup",
                "ours": f"{BATCH * LENGTH / ms[name]:.1f} tokens/ms",
                "reference": f"{BATCH * LENGTH / ms['usual']:.1f} tokens/ms, torch layers + mup, float32",
                "ratio": ms["usual"] / ms[name],
            }
        yield {
            "what": f"width {width}, bfloat16 over float32",
            "ours": f"{BATCH * LENGTH / ms['bfloat16']:.1f} tokens/ms",
            "reference": f"{BATCH * LENGTH / ms['float32']:.1f} tokens/ms, ours",
            "ratio": ms["float32"] / ms["bfloat16"],
        }


if __name__ == "__main__":
    answer(measure_width)
