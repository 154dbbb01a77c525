"""(j) One step of BERT's pretraining beside the usual loop with Hugging Face's `BertForMaskedLM`.

Run as ``python -m benchmarks.bert VOCABULARIES SECONDS DROPOUT PRECISION`` in the environment of a sweep's worker;
prints JSON. Four blocks, d_model 128, 4 heads, d_ffn 512, batch 32, length 128, AdamW, one thread, random tokens, 15%
of them masked. Theirs computes the logits of all places, as its loss asks for; ours those of the masked ones, and
has the loss of the next sentence besides. Dropout 0.1 is of everything that Hugging Face's model drops, attention too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import answer, in_worker, medians
from mutransfer.errors import UserError
from mutransfer.models.transformer import Bert
from mutransfer.models.transformer_config import Config
from mutransfer.training.bert import IGNORED, Pretraining, predicted
from mutransfer.training.step import Step

BATCH, LENGTH, WIDTH, DEPTH, HEADS, RATE = 32, 128, 128, 4, 4, 1e-4
VOCABULARIES = (4000, 30_522)
SETTINGS = (("0", "float32"), ("0.1", "float32"), ("0", "bfloat16"), ("0.1", "bfloat16"))


def measure(vocab: int, seconds: float, dropout: str, precision: str) -> dict[str, Any]:
    """Milliseconds a step, interleaved."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    rate = float(dropout)
    ours = Bert(
        Config(
            vocab=vocab,
            width=WIDTH,
            depth=DEPTH,
            heads=HEADS,
            length=LENGTH,
            positions="learned",
            segments=2,
            activation="gelu",
            tied=True,
            dropout=rate,
            inner_dropout=rate,
            ffn_dropout=0.0,
            embed_std=0.02,
        )
    )
    theirs = BertForMaskedLM(
        BertConfig(
            vocab_size=vocab,
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=rate,
            attention_probs_dropout_prob=rate,
        )
    )
    theirs.train()
    optimizers = [torch.optim.AdamW(model.parameters(), lr=RATE, fused=True) for model in (ours, theirs)]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)

    def compute(*batch: Tensor) -> Tensor:
        with autocast:
            return Pretraining.loss(ours, *batch)

    step = Step(compute, optimizers[0])

    def our_step(batch: tuple[Tensor, ...], labels: Tensor) -> None:
        step(*batch)

    def their_step(batch: tuple[Tensor, ...], labels: Tensor) -> None:
        tokens, segments, padding, *_ = batch
        optimizers[1].zero_grad()
        with autocast:
            loss = theirs(
                input_ids=tokens, token_type_ids=segments, attention_mask=(~padding).long(), labels=labels
            ).loss
        loss.backward()
        optimizers[1].step()

    def draw() -> tuple[Any, ...]:
        tokens = torch.randint(vocab, (BATCH, LENGTH))
        segments = (torch.arange(LENGTH) >= LENGTH // 2).long().expand(BATCH, -1).contiguous()
        padding = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
        padding[:, -2:] = True  # as text leaves some, so that both need a mask
        places = torch.rand(BATCH, LENGTH - 2).topk(predicted(LENGTH)).indices
        targets = tokens.gather(1, places)
        labels = torch.full_like(tokens, IGNORED).scatter(1, places, targets)
        flat = (places + torch.arange(BATCH)[:, None] * LENGTH).flatten()
        return (tokens, segments, padding, flat, targets.flatten(), torch.randint(2, (BATCH,))), labels

    return {"vocab": vocab, **medians({"ours": our_step, "theirs": their_step}, seconds, draw)}


def rows(seconds: float) -> Iterator[dict[str, Any]]:
    """Of every vocabulary, dropout and precision. Raises `UserError` if transformers is not installed."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError("part j needs Hugging Face's transformers: pip install 'mutransfer[hf]'") from None
    tokens = BATCH * LENGTH
    for dropout, precision in SETTINGS:
        for row in in_worker("benchmarks.bert", [*VOCABULARIES], seconds, dropout, precision):
            ours, theirs = row["ours"], row["theirs"]
            yield {
                "what": f"{row['vocab']:,} words, drop {dropout}, {precision}",
                "ours": f"{tokens / ours * 1e3:,.0f} tokens/s ({ours:.0f} ms)",
                "reference": f"{tokens / theirs * 1e3:,.0f} tokens/s ({theirs:.0f} ms)",
                "ratio": theirs / ours,
            }


if __name__ == "__main__":
    answer(measure)
