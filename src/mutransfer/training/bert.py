"""BERT (Devlin et al. 2018): pretraining by masked words and following texts as a task, and fine-tuning (App. F.3).

Letters: N examples, B of a batch, T places of a sequence, P of them predicted at most, V vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.training.schedule import schedule
from mutransfer.training.step import Step
from mutransfer.training.task import Task, evenly

if TYPE_CHECKING:
    from mutransfer.data.sentences import Documents, Labelled, SentenceDataset, Special

MASKED = 0.15  # of the tokens are predicted; of these
AS_MASK, AS_RANDOM = 0.8, 0.1  # are shown as the mask, as a random token; the others as they are
SPECIAL = 3  # tokens of a sequence: [CLS] a [SEP] b [SEP]
IGNORED = -100  # the target of a place that is not predicted (torch's default)
EVAL_SEQUENCES, EVAL_BATCH, EVAL_SEED = 1024, 64, 0


class _Passages(NamedTuple):
    """Consecutive sentences of one document that fill a sequence: what examples are made of, int64 [N] each."""

    tokens: Tensor  # of the part
    cuts: Tensor  # [all inner ends of sentences], in tokens
    start: Tensor
    end: Tensor
    document_end: Tensor
    first_cut: Tensor  # of a passage, a place in ``cuts``
    cut_count: Tensor

    @classmethod
    def of(cls, documents: Documents, room: int) -> _Passages:
        """Sentences are taken while ``room`` tokens hold them; one longer than that is a passage, cut short."""
        ends = documents.sentence_ends.tolist()
        rows: list[tuple[int, int, int, int, int]] = []
        cuts: list[int] = []
        start = sentence = 0
        for last in documents.document_ends.tolist():
            while sentence < last:
                after = sentence + 1
                while after < last and ends[after] - start <= room:
                    after += 1
                inner = ends[sentence : after - 1]
                rows.append((start, min(ends[after - 1], start + room), ends[last - 1], len(cuts), len(inner)))
                cuts += inner
                start, sentence = ends[after - 1], after
        columns = torch.tensor(rows, dtype=torch.int64).view(-1, 5).T.contiguous()
        return cls(documents.tokens, torch.tensor(cuts or [0]), *columns)


class Pretraining(Task):
    """Learn to predict masked tokens, and whether the second text follows the first.

    An example is a passage, cut in two at a random end of a sentence. Half of the time the second text is another one
    instead: as many tokens as there is room for, from the beginning of a random passage on, within its document.
    A passage of one sentence always gets another one behind its first half.

    A batch is (tokens [B, T], segments [B, T], padding [B, T], places [B * P], targets [B * P], is_other [B]): places
    count through the whole batch, and a target of `IGNORED` fills those that a short sequence does not need.
    `MASKED` of each sequence's words, at least one, are predicted; which ones, and all else, is drawn afresh whenever
    an example comes. The loss is the mean over the masked tokens plus the mean over the pairs, in nats.

    length: T, special tokens included; `UserError` where no word has room on either side. seed: of all draws, which
    come in the order of the batches.
    """

    def __init__(self, data: SentenceDataset, length: int, *, seed: int) -> None:
        if length < SPECIAL + 2:
            raise UserError(f"a sequence has {length} tokens, expected at least {SPECIAL + 2}.")
        self.data, self._length = data, length
        self._room = length - SPECIAL
        self._predicted = predicted(length)
        self._passages = _Passages.of(data.documents("train"), self._room)
        self.count = len(self._passages.start)
        self.generator: torch.Generator = torch.Generator().manual_seed(seed)

    def to(self, device: torch.device) -> None:
        self._passages = _Passages(*(x.to(device) for x in self._passages))

    def skip(self, rows_SxB: Tensor) -> None:
        for rows_B in rows_SxB:
            self._draw(len(rows_B), self.generator)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for rows_B in rows_SxB.to(self._passages.start.device):
            yield self._batch(self._passages, rows_B, self._draw(len(rows_B), self.generator))

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        *inputs, targets_M, is_other_B = batch
        logits_MxV, following_Bx2 = model(*inputs)
        return F.cross_entropy(logits_MxV, targets_M) + F.cross_entropy(following_Bx2, is_other_B)

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """On `EVAL_SEQUENCES` of the test part, evenly spread, with the same masks and pairs for every model: mean loss
        of a masked token plus that of a pair (nats), and the share of masked tokens that are found."""
        device = self._passages.start.device
        passages = _Passages(*(x.to(device) for x in _Passages.of(self.data.documents("test"), self._room)))
        generator = torch.Generator().manual_seed(EVAL_SEED)
        rows_N = evenly(len(passages.start), EVAL_SEQUENCES)
        masked = pairs = found = words = 0.0
        for rows_B in rows_N.to(device).split(EVAL_BATCH):
            *inputs, targets_M, is_other_B = self._batch(passages, rows_B, self._draw(len(rows_B), generator))
            logits_MxV, following_Bx2 = model(*inputs)
            masked += float(F.cross_entropy(logits_MxV.float(), targets_M, reduction="sum"))
            pairs += float(F.cross_entropy(following_Bx2.float(), is_other_B, reduction="sum"))
            found += int((logits_MxV.argmax(-1) == targets_M).sum())
            words += int((targets_M != IGNORED).sum())
        return masked / words + pairs / len(rows_N), found / words

    def _draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """[B, 3 + T + 2 P] in [0, 1): all that is random in a batch."""
        return torch.rand(batch, 3 + self._length + 2 * self._predicted, generator=generator)

    def _batch(self, passages: _Passages, rows_B: Tensor, draws: Tensor) -> tuple[Tensor, ...]:
        device, count, special = rows_B.device, self._predicted, self.data.special
        pair_Bx3, where_BxT, how_BxP, which_BxP = draws.to(device).split([3, self._length, count, count], dim=1)
        texts, is_other_B = self._pairs(passages, rows_B, pair_Bx3)
        tokens_BxT, segments_BxT, is_word_BxT, padding_BxT = sequences(passages.tokens, texts, self._length, special)
        needed_B = (is_word_BxT.sum(1) * MASKED).round().long().clamp(min=1)
        places_BxP = where_BxT.masked_fill(~is_word_BxT, 2.0).topk(count, dim=1, largest=False).indices
        is_needed_BxP = torch.arange(count, device=device) < needed_B[:, None]
        words_BxP = tokens_BxT.gather(1, places_BxP)
        shown_BxP = torch.where(how_BxP < AS_MASK, special.mask, words_BxP)
        is_random_BxP = (how_BxP >= AS_MASK) & (how_BxP < AS_MASK + AS_RANDOM)
        shown_BxP = torch.where(is_random_BxP, (which_BxP * self.data.vocab).long(), shown_BxP)
        tokens_BxT.scatter_(1, places_BxP, torch.where(is_needed_BxP, shown_BxP, words_BxP))
        places_M = (places_BxP + torch.arange(len(rows_B), device=device)[:, None] * self._length).flatten()
        targets_M = words_BxP.masked_fill(~is_needed_BxP, IGNORED).flatten()
        return tokens_BxT, segments_BxT, padding_BxT, places_M, targets_M, is_other_B

    def _pairs(self, p: _Passages, rows_B: Tensor, draws_Bx3: Tensor) -> tuple[Texts, Tensor]:
        """The first texts and the second ones, and whether these are others, int64 [B]."""
        coin_B, cut_B, other_B = draws_Bx3.unbind(1)
        start, end, cuts = p.start[rows_B], p.end[rows_B], p.cut_count[rows_B]
        has_cuts = cuts > 0
        chosen = p.cuts[(p.first_cut[rows_B] + (cut_B * cuts).long()).clamp(max=len(p.cuts) - 1)]
        half = start + ((end - start + 1) // 2).clamp(max=self._room - 1)
        middle = torch.where(has_cuts, chosen, half)
        is_other = (coin_B < 0.5) | ~has_cuts
        other = (other_B * len(p.start)).long()
        second = torch.where(is_other, p.start[other], middle)
        last = torch.where(is_other, p.document_end[other], end)
        length = torch.minimum(last - second, self._room - (middle - start))
        return (start, middle - start, second, length), is_other.long()


def predicted(length: int) -> int:
    """P: the most places that are predicted of a sequence of ``length`` tokens."""
    return max(1, round((length - SPECIAL) * MASKED))


Texts = Sequence[Tensor]  # [B] each: where the first texts start, their lengths, and so of the second ones


def sequences(tokens: Tensor, texts: Texts, length: int, special: Special) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[CLS] first [SEP] second [SEP], or [CLS] first [SEP] where the second text has no tokens; they fit ``length``.

    [B, T] each: tokens (int64), segments (1 in the second text and the [SEP] behind it), what are words, what is
    padding.
    """
    t = torch.arange(length, device=tokens.device)
    first_start, a, second_start, b = (x[:, None] for x in texts)
    second = a + 2  # the place where the second text begins
    in_first, in_second = (t >= 1) & (t <= a), (t >= second) & (t < second + b)
    end = torch.where(b > 0, second + b + 1, second)  # behind the last [SEP]
    place = torch.where(in_first, first_start + t - 1, second_start + t - second)
    is_word, padding = in_first | in_second, t >= end
    words = torch.where(is_word, tokens[place.clamp(0, len(tokens) - 1)].long(), special.sep)
    words = words.masked_fill(t == 0, special.cls).masked_fill(padding, special.pad)
    return words, ((t >= second) & ~padding).long(), is_word, padding


SCHEDULE = "warmup_0.1_linear"  # App. F.3
MULTIPLE = 8  # of which the length of a padded batch is one: fewer shapes
SCORE_BATCH = 256


class LabelledSequences:
    """Examples as sequences, on a device: of pairs that are too long, the end of the longer text is left out."""

    def __init__(self, examples: Labelled, length: int, special: Special, device: torch.device) -> None:
        first = examples.ends[:, 0] - examples.starts
        second = examples.ends[:, 1] - examples.ends[:, 0]
        room = length - 2 - (second > 0).long()
        # what is left out goes from the longer one until both are equal, then from both
        kept_first = torch.minimum(first, torch.maximum(room - second, (room + 1) // 2))
        kept_second = torch.minimum(second, room - kept_first)
        self.sizes = (kept_first + kept_second + 2 + (second > 0)).numpy()
        columns = (examples.tokens, examples.starts, kept_first, examples.ends[:, 0], kept_second, examples.labels)
        self._tokens, *self._columns, self.labels = (x.to(device) for x in columns)
        self._length, self._special = length, special

    def batch(self, rows_B: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """tokens, segments, padding [B, T] and labels [B]; T is the longest, a multiple of `MULTIPLE`."""
        width = min(-(-int(self.sizes[rows_B].max()) // MULTIPLE) * MULTIPLE, self._length)
        rows = torch.from_numpy(rows_B).to(self.labels.device)
        texts = [x[rows] for x in self._columns]
        tokens, segments, _, padding = sequences(self._tokens, texts, width, self._special)
        return tokens, segments, padding, self.labels[rows]


def finetune(
    classifier: nn.Module,
    train: LabelledSequences,
    test: LabelledSequences,
    *,
    metric: str,
    lr: float,
    steps: int,
    batch: int,
    seed: int,
) -> float:
    """The score on ``test`` after ``steps`` steps of Adam on ``train``; ``classifier`` is trained in place.

    The learning rate rises over the first tenth and falls to zero (App. F.3: 5e-5, batch 64). Every epoch is a new
    permutation; ``seed`` decides it, and dropout. 0 if the classifier gives no numbers.

    metric: one of `METRICS`.
    """
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=lr, fused=True)
    factor = schedule(SCHEDULE)

    def loss(tokens: Tensor, segments: Tensor, padding: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(classifier(tokens, segments, padding), labels)

    classifier.train()
    step = Step(loss, optimizer)
    for i, rows_B in zip(range(steps), epochs(train.sizes, batch, np.random.default_rng(seed)), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr * factor(i / steps)
        step(*train.batch(rows_B))
    return score(classifier, test, metric)


def epochs(sizes_N: np.ndarray, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The numbers of the examples of one batch after the other, without end; batches have examples of like size.

    Of every epoch, a permutation, each 32 batches are sorted by size, and come in random order.
    """
    while True:
        order_N = rng.permutation(len(sizes_N))
        for start in range(0, len(order_N), 32 * batch):
            some = order_N[start : start + 32 * batch]
            some = some[np.argsort(sizes_N[some], kind="stable")]
            batches = [some[i : i + batch] for i in range(0, len(some), batch)]
            for i in rng.permutation(len(batches)):
                if len(batches[i]) == min(batch, len(sizes_N)):  # of an epoch's last ones some are too small
                    yield batches[i]


@torch.no_grad()
def score(classifier: nn.Module, test: LabelledSequences, metric: str) -> float:
    """In percent; 0 if the classifier gives no numbers."""
    classifier.eval()
    order_N = np.argsort(test.sizes, kind="stable")
    said = np.empty(len(order_N), np.int64)
    for start in range(0, len(order_N), SCORE_BATCH):
        rows_B = order_N[start : start + SCORE_BATCH]
        *inputs, _ = test.batch(rows_B)
        logits_BxC = classifier(*inputs)
        if not bool(logits_BxC.isfinite().all()):
            return 0.0
        said[rows_B] = logits_BxC.argmax(-1).cpu().numpy()
    return 100 * METRICS[metric](said, test.labels.cpu().numpy())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {  # of what is said and the labels; the last two: 0, 1
    "accuracy": lambda said, labels: float((said == labels).mean()),
    "f1": lambda said, labels: float(2 * (said @ labels) / max(said.sum() + labels.sum(), 1)),
    "matthews": lambda said, labels: float(np.corrcoef(said, labels)[0, 1]) if said.std() and labels.std() else 0.0,
}
