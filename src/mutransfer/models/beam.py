"""Beam search over an `EncoderDecoder`, batched: no Python for each beam or token.

Letters: B sentences, K beams, R = B x K prefixes (those of a sentence are neighbours), C = 2K candidates, S source
tokens, T target tokens, L tokens of the longest translation, V vocabulary.

The rules are those of fairseq 0.12's ``SequenceGenerator``. Of all extensions of a sentence's K prefixes by one token,
the C of the largest log-probability are its candidates. Those of the first K that end the sentence are finished
hypotheses; the first K that do not end it are the next prefixes. A sentence is done when it has K finished hypotheses,
or at its longest length, where nothing but the end may follow. No translation is empty, none holds padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer.errors import UserError
from mutransfer.models.transformer import Cache, EncoderDecoder

CHUNK = 32  # neighbouring tokens, at most, whose best stands for all of them in a first look for candidates


@dataclass(frozen=True)
class Hypothesis:
    """A translation, and the log-probability (nats) of its tokens and its end / (their number) ** length_penalty."""

    tokens: tuple[int, ...]  # without the end
    score: float


@torch.inference_mode()
def beam_search(
    model: EncoderDecoder,
    source_BxS: Tensor,
    padding_BxS: Tensor,
    *,
    beam: int = 5,
    length_penalty: float = 1.0,
    max_length: tuple[float, float] = (0.0, 200.0),
    eos: int = 2,
    pad: int = 1,
) -> list[list[Hypothesis]]:
    """Up to ``beam`` translations of each sentence, best first; none where the logits are not numbers.

    The model is used in evaluation mode and left in the mode it was in. Under `torch.autocast` it computes in that
    precision; log-probabilities and their sums are float32.

    Args:
        source_BxS: the sentences, each with ``eos`` after its last token.
        padding_BxS: True where there is no token.
        length_penalty: above 1 favours long translations, below 1 short ones.
        max_length: (a, b): at most a * S + b tokens and the end, for a sentence of S tokens (``eos`` counted, padding
            not: what stands beside a sentence changes nothing); fewer where the model's sequences are shorter.
        eos: ends a sentence, and is what the decoder starts from.
        pad: is never generated.

    Raises:
        UserError: a beam below 1, or a source longer than the model's sequences.
    """
    if beam < 1:
        raise UserError(f"beam is {beam}, expected at least 1.")
    a, b = max_length
    longest = model.decoder.c.length - 1  # the decoder also reads the eos that it starts from
    limit_B = (a * (~padding_BxS).sum(1) + b).long().clamp(1, longest)
    was_training = model.training
    model.eval()
    try:
        search = _Search(model, source_BxS, padding_BxS, limit_B, beam, length_penalty, eos, pad)
        search.run()
    finally:
        model.train(was_training)
    return search.hypotheses()


class _Search:
    """The prefixes of the sentences that are not done, and the finished hypotheses of all."""

    def __init__(
        self,
        model: EncoderDecoder,
        source_BxS: Tensor,
        padding_BxS: Tensor,
        limit_B: Tensor,
        beam: int,
        length_penalty: float,
        eos: int,
        pad: int,
    ) -> None:
        self._model, self._limit_B = model, limit_B
        self._beam, self._length_penalty, self._eos, self._pad = beam, length_penalty, eos, pad
        batch, device = len(source_BxS), source_BxS.device
        self._least, self._most = map(int, limit_B.aminmax())
        # finished hypotheses, of every sentence
        self._scores_BxK = torch.full((batch, self._beam), -math.inf, device=device)
        self._lengths_BxK = torch.zeros(batch, self._beam, dtype=torch.int64, device=device)
        self._found_BxKxL = torch.zeros(batch, self._beam, self._most, dtype=torch.int64, device=device)
        # what is still searched: before the first step one prefix per sentence, the empty one, later K
        self._sentence_B = torch.arange(batch, device=device)
        self._count_B = torch.zeros(batch, dtype=torch.int64, device=device)  # of finished hypotheses
        self._score_BxK = torch.zeros(batch, 1, device=device)  # log-probabilities of the prefixes
        self._tokens_RxT = torch.full((batch, 1), self._eos, device=device)
        self._padding_RxS = padding_BxS if padding_BxS.any() else None  # attention is faster without a mask
        self._memory_BxSxN = model.encoder(source_BxS, padding_BxT=self._padding_RxS)
        self._cache = _new_cache(model, batch)

    def run(self) -> None:
        for length in range(self._most + 1):
            if not len(self._sentence_B):
                break
            self._step(length)

    def hypotheses(self) -> list[list[Hypothesis]]:
        """The finished ones of each sentence, best first; of equal ones, first found first."""
        scores_BxK, order_BxK = self._scores_BxK.sort(dim=1, descending=True, stable=True)
        lengths_BxK = self._lengths_BxK.gather(1, order_BxK)
        tokens_BxKxL = self._found_BxKxL.take_along_dim(order_BxK[..., None], 1)
        rows = zip(scores_BxK.tolist(), lengths_BxK.tolist(), tokens_BxKxL.tolist(), strict=True)
        return [[Hypothesis(tuple(t[:n]), s) for s, n, t in zip(*row, strict=True) if s > -math.inf] for row in rows]

    def _step(self, length: int) -> None:
        """Extend all prefixes, of ``length`` tokens, by one."""
        score_BxC, token_BxC, row_BxC = self._candidates(self._log_probabilities(length))
        is_end_BxC = token_BxC == self._eos
        ends_BxK = (is_end_BxC & (score_BxC > -math.inf))[:, : self._beam]
        chosen_BxK = is_end_BxC.byte().argsort(dim=1, stable=True)[:, : self._beam]
        kept_B = None
        if ends_BxK.any():
            self._finish(length, ends_BxK, score_BxC, row_BxC)
            is_done_B = (self._count_B >= self._beam) | (self._limit_B <= length)
            if is_done_B.any():
                kept_B = (~is_done_B).nonzero()[:, 0]
                chosen_BxK, score_BxC, token_BxC, row_BxC = (
                    x.index_select(0, kept_B) for x in (chosen_BxK, score_BxC, token_BxC, row_BxC)
                )
        self._follow(kept_B, *(x.gather(1, chosen_BxK) for x in (score_BxC, token_BxC, row_BxC)))

    def _log_probabilities(self, length: int) -> Tensor:
        """[R, V], of each token after each prefix; -inf: it may not follow."""
        # the memory's keys and values, once they are in the cache, are all that is read of it
        logits_Rx1xV = self._model.decode(self._memory_BxSxN, self._tokens_RxT[:, -1:], self._padding_RxS, self._cache)
        found_RxV = logits_Rx1xV[:, 0].float().log_softmax(-1)
        found_RxV[:, self._pad] = -math.inf
        if length == 0:
            found_RxV[:, self._eos] = -math.inf
        if length >= self._least:
            is_over_R = (self._limit_B <= length).repeat_interleave(self._score_BxK.shape[1])
            end_R = found_RxV[:, self._eos].clone()
            found_RxV.masked_fill_(is_over_R[:, None], -math.inf)
            found_RxV[:, self._eos] = end_R
        return found_RxV

    def _candidates(self, step_RxV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The log-probabilities of the C best extensions, best first, their tokens, and the rows of their prefixes."""
        (batch, beams), vocab, count = self._score_BxK.shape, step_RxV.shape[1], 2 * self._beam
        # The best C tokens lie in the C chunks of the best first tokens; to look there is faster than a sort of all.
        chunk = next(size for size in range(CHUNK, 0, -1) if vocab % size == 0)
        chunks = vocab // chunk
        first_BxJ = (step_RxV.view(batch, beams, chunks, chunk).amax(-1) + self._score_BxK[..., None]).flatten(1)
        near_BxJ = first_BxJ.topk(min(count, beams * chunks)).indices
        flat_BxJ = near_BxJ + torch.arange(batch, device=near_BxJ.device)[:, None] * (beams * chunks)
        few_BxJxI = step_RxV.view(-1, chunk)[flat_BxJ] + self._score_BxK.gather(1, near_BxJ // chunks)[..., None]
        score_BxC, at_BxC = few_BxJxI.flatten(1).topk(min(count, few_BxJxI[0].numel()))
        place_BxC = flat_BxJ.gather(1, at_BxC // chunk) * chunk + at_BxC % chunk  # in R x V
        token_BxC, row_BxC = place_BxC % vocab, place_BxC // vocab
        missing = (0, count - score_BxC.shape[1])  # of one prefix and a small vocabulary
        return (
            F.pad(score_BxC, missing, value=-math.inf),
            F.pad(token_BxC, missing, value=self._pad),
            F.pad(row_BxC, missing),
        )

    def _finish(self, length: int, ends_BxK: Tensor, score_BxC: Tensor, row_BxC: Tensor) -> None:
        """Keep the hypotheses that end here, the best first, up to K a sentence."""
        place_BxK = self._count_B[:, None] + ends_BxK.cumsum(1) - 1
        b, k = (ends_BxK & (place_BxK < self._beam)).nonzero(as_tuple=True)
        sentence, place = self._sentence_B[b], place_BxK[b, k]
        self._scores_BxK[sentence, place] = score_BxC[b, k] / (length + 1) ** self._length_penalty
        self._lengths_BxK[sentence, place] = length
        self._found_BxKxL[sentence, place, :length] = self._tokens_RxT[row_BxC[b, k], 1:]
        self._count_B += ends_BxK.sum(1)

    def _follow(self, kept_B: Tensor | None, score_BxK: Tensor, token_BxK: Tensor, row_BxK: Tensor) -> None:
        """Make the chosen candidates the prefixes; sentences that are done leave the batch."""
        row_R, beams = row_BxK.flatten(), self._score_BxK.shape[1]
        self._score_BxK = score_BxK
        self._tokens_RxT = torch.cat([self._tokens_RxT.index_select(0, row_R), token_BxK.view(-1, 1)], 1)
        for cache in self._cache:
            for name in ("k", "v"):
                cache[name] = cache[name].index_select(0, row_R)
        if kept_B is None and beams == self._beam:
            return
        if kept_B is None:
            kept_B = torch.arange(len(score_BxK), device=score_BxK.device)
        self._sentence_B, self._count_B, self._limit_B = (
            x.index_select(0, kept_B) for x in (self._sentence_B, self._count_B, self._limit_B)
        )
        first_R = (kept_B * beams).repeat_interleave(self._beam)  # all prefixes of a sentence have one memory
        for cache in self._cache:
            for name in ("memory_k", "memory_v"):
                cache[name] = cache[name].index_select(0, first_R)
        if self._padding_RxS is not None:
            self._padding_RxS = self._padding_RxS.index_select(0, first_R)


def _new_cache(model: EncoderDecoder, batch: int) -> list[Cache]:
    """An empty cache in the precision that the model computes in."""
    cache = model.decoder.new_cache(batch)
    kind = cache[0]["k"].device.type
    if torch.is_autocast_enabled(kind):
        cache = [{name: x.to(torch.get_autocast_dtype(kind)) for name, x in block.items()} for block in cache]
    return cache
