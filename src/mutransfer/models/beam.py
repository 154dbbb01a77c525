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
from mutransfer.models.transformer import EncoderDecoder

PAD, EOS = 1, 2  # as in `mutransfer.data.pairs`: never generated; what ends a sentence and what the decoder starts from
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
) -> list[list[Hypothesis]]:
    """Up to ``beam`` translations of each sentence, best first; none where the logits are not numbers.

    The model is used in evaluation mode and left in the mode it was in. Under `torch.autocast` it computes in that
    precision; log-probabilities and their sums are float32.

    source_BxS: the sentences, each with `EOS` after its last token. padding_BxS: True where there is no token.
    length_penalty: above 1 favours long translations, below 1 short ones.
    max_length: (a, b): at most a * S + b tokens and the end, for a sentence of S tokens (`EOS` counted, padding not:
        what stands beside a sentence changes nothing); fewer where the model's sequences are shorter.

    Raises `UserError` for a beam below 1, and for a source longer than the model's sequences.
    """
    if beam < 1:
        raise UserError(f"beam is {beam}, expected at least 1.")
    a, b = max_length
    longest = model.decoder.c.length - 1  # the decoder also reads the `EOS` that it starts from
    limit_B = (a * (~padding_BxS).sum(1) + b).long().clamp(1, longest)
    was_training = model.training
    model.eval()
    try:
        scores, lengths, texts = _search(model, source_BxS, padding_BxS, limit_B, beam, length_penalty)
    finally:
        model.train(was_training)
    scores, order_BxK = scores.sort(dim=1, descending=True, stable=True)  # of equal ones, first found first
    lengths, texts = lengths.gather(1, order_BxK), texts.take_along_dim(order_BxK[..., None], 1)
    rows = zip(scores.tolist(), lengths.tolist(), texts.tolist(), strict=True)
    return [[Hypothesis(tuple(t[:n]), s) for s, n, t in zip(*row, strict=True) if s > -math.inf] for row in rows]


def _search(
    model: EncoderDecoder, source_BxS: Tensor, padding_BxS: Tensor, limit_B: Tensor, beam: int, length_penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the finished hypotheses, in their order: scores [B, K] (-inf: none), lengths, tokens [B, K, L]."""
    batch, device = len(source_BxS), source_BxS.device
    least, most = map(int, limit_B.aminmax())
    scores_BxK = torch.full((batch, beam), -math.inf, device=device)
    lengths_BxK = torch.zeros(batch, beam, dtype=torch.int64, device=device)
    texts_BxKxL = torch.zeros(batch, beam, most, dtype=torch.int64, device=device)
    # what is still searched: before the first step one prefix per sentence, the empty one, later K
    sentence_B = torch.arange(batch, device=device)
    count_B = torch.zeros(batch, dtype=torch.int64, device=device)  # of finished hypotheses
    score_BxK = torch.zeros(batch, 1, device=device)  # log-probabilities of the prefixes
    tokens_RxT = torch.full((batch, 1), EOS, device=device)
    padding_RxS = padding_BxS if padding_BxS.any() else None  # attention is faster without a mask
    memory_BxSxN, cache = model.encoder(source_BxS, padding_BxT=padding_RxS), model.decoder.new_cache(batch)
    for length in range(most + 1):
        if not len(sentence_B):
            break
        beams = score_BxK.shape[1]
        # the memory's keys and values, once they are in the cache, are all that is read of it
        logits_Rx1xV = model.decode(memory_BxSxN, tokens_RxT[:, -1:], padding_RxS, cache)
        step_RxV = logits_Rx1xV[:, 0].float().log_softmax(-1)  # -inf: may not follow
        step_RxV[:, PAD] = -math.inf
        if length == 0:
            step_RxV[:, EOS] = -math.inf
        if length >= least:
            end_R = step_RxV[:, EOS].clone()
            step_RxV.masked_fill_((limit_B <= length).repeat_interleave(beams)[:, None], -math.inf)
            step_RxV[:, EOS] = end_R

        score_BxC, token_BxC, row_BxC = _candidates(step_RxV, score_BxK, 2 * beam)
        is_end_BxC = token_BxC == EOS
        ends_BxK = (is_end_BxC & (score_BxC > -math.inf))[:, :beam]
        if ends_BxK.any():  # the best first, up to K a sentence
            place_BxK = count_B[:, None] + ends_BxK.cumsum(1) - 1
            b, k = (ends_BxK & (place_BxK < beam)).nonzero(as_tuple=True)
            sentence, place = sentence_B[b], place_BxK[b, k]
            scores_BxK[sentence, place] = score_BxC[b, k] / (length + 1) ** length_penalty
            lengths_BxK[sentence, place] = length
            texts_BxKxL[sentence, place, :length] = tokens_RxT[row_BxC[b, k], 1:]
            count_B += ends_BxK.sum(1)

        # the next prefixes, of the sentences that are not done
        kept_B = ((count_B < beam) & (limit_B > length)).nonzero()[:, 0]
        chosen_BxK = is_end_BxC.byte().argsort(dim=1, stable=True)[:, :beam]
        score_BxK, token_BxK, row_BxK = (x.gather(1, chosen_BxK)[kept_B] for x in (score_BxC, token_BxC, row_BxC))
        row_R = row_BxK.flatten()
        tokens_RxT = torch.cat([tokens_RxT.index_select(0, row_R), token_BxK.view(-1, 1)], 1)
        moved = {"k": row_R, "v": row_R}
        if beams < beam or len(kept_B) < len(sentence_B):
            sentence_B, count_B, limit_B = (x.index_select(0, kept_B) for x in (sentence_B, count_B, limit_B))
            first_R = (kept_B * beams).repeat_interleave(beam)  # all prefixes of a sentence have one memory
            moved |= {"memory_k": first_R, "memory_v": first_R}
            padding_RxS = None if padding_RxS is None else padding_RxS.index_select(0, first_R)
        for block in cache:
            block.update({name: block[name].index_select(0, rows) for name, rows in moved.items()})
    return scores_BxK, lengths_BxK, texts_BxKxL


def _candidates(step_RxV: Tensor, score_BxK: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probabilities of the C best extensions, best first, their tokens, and the rows of their prefixes."""
    (batch, beams), vocab = score_BxK.shape, step_RxV.shape[1]
    # The best C tokens lie in the C chunks of the best first tokens; to look there is faster than a sort of all.
    chunk = next(size for size in range(CHUNK, 0, -1) if vocab % size == 0)
    chunks = vocab // chunk
    first_BxJ = (step_RxV.view(batch, beams, chunks, chunk).amax(-1) + score_BxK[..., None]).flatten(1)
    near_BxJ = first_BxJ.topk(min(count, beams * chunks)).indices
    flat_BxJ = near_BxJ + torch.arange(batch, device=near_BxJ.device)[:, None] * (beams * chunks)
    few_BxJxI = step_RxV.view(-1, chunk)[flat_BxJ] + score_BxK.gather(1, near_BxJ // chunks)[..., None]
    score_BxC, at_BxC = few_BxJxI.flatten(1).topk(min(count, few_BxJxI[0].numel()))
    place_BxC = flat_BxJ.gather(1, at_BxC // chunk) * chunk + at_BxC % chunk  # in R x V
    missing = (0, count - score_BxC.shape[1])  # of one prefix and a small vocabulary
    token_BxC, row_BxC = F.pad(place_BxC % vocab, missing, value=PAD), F.pad(place_BxC // vocab, missing)
    return F.pad(score_BxC, missing, value=-math.inf), token_BxC, row_BxC
