"""BERT (Devlin et al. 2018): an encoder that predicts masked tokens, and whether one text follows another.

Letters: B batch, T tokens, M places to predict in the whole batch, N width (d_model), V vocabulary, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mutransfer.models.dropout import Dropout
from mutransfer.models.transformer import Stack, draw
from mutransfer.models.transformer_config import ACTIVATIONS, Config


class Readout(nn.Linear):
    """A linear map that starts at zero or, without ``zero_readout``, from N(0, 1/width); its bias starts at zero.

    Also when it is reset: `Plan.initialize` so tells how a readout of few outputs is drawn.
    """

    def __init__(self, c: Config, outputs: int) -> None:
        self.is_zero = c.zero_readout
        super().__init__(c.width, outputs)

    def reset_parameters(self) -> None:
        draw(self, 1.0)
        if self.is_zero:
            nn.init.zeros_(self.weight)  # µP: zero satisfies every parametrization's init (App. D.2)


class Bert(nn.Module):
    """Tokens -> logits of the masked tokens, and of whether the second text follows the first.

    ``norm="pre"`` is Megatron's BERT, the paper's; ``norm="post"`` with ``embed_norm`` is the published one, which
    `mutransfer.huggingface` reads and writes. The pooler and both heads are alike in the two.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c, self.phi, self.output_mult = c, ACTIVATIONS[c.activation], c.output_mult
        self.stack = Stack(c, causal=False)
        self.transform = nn.Linear(c.width, c.width, bias=c.bias)  # µP: HIDDEN
        self.transform_norm = nn.LayerNorm(c.width, c.norm_eps)  # µP: INPUT (gain and bias)
        self.readout = Readout(c, c.vocab)  # µP: OUTPUT; its bias is SCALAR
        if c.tied:
            self.readout.weight = self.stack.embed.weight
        self.pooler = nn.Linear(c.width, c.width, bias=c.bias)  # µP: HIDDEN
        self.following = Readout(c, 2)  # µP: OUTPUT
        draw(self.transform, c.init_mult)
        draw(self.pooler, c.init_mult)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw a hidden matrix afresh: of narrow models `Plan.initialize` asks how their init goes with width."""
        if isinstance(module, nn.Linear):
            draw(module, self.c.init_mult)

    def forward(
        self,
        tokens_BxT: Tensor,
        segments_BxT: Tensor | None = None,
        padding_BxT: Tensor | None = None,
        places_M: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the token at each of ``places`` [M, V], and [B, 2]: the second text follows (0), or does not (1).

        ``places``: counted through the whole batch, b * T + t; only these pay for the vocabulary. None: everywhere,
        [B, T, V]. ``segments``: 0 or 1; None: 0 everywhere. ``padding``: True where there is no token.

        Raises `UserError` for a sequence longer than the model's, and for segments where the model has none.
        """
        x_BxTxN = self.hidden(tokens_BxT, segments_BxT, padding_BxT)
        following_Bx2 = self.following(pooled(self.pooler, x_BxTxN))
        x = x_BxTxN if places_M is None else x_BxTxN.flatten(0, 1).index_select(0, places_M)
        return self.logits(x), following_Bx2

    def hidden(
        self, tokens_BxT: Tensor, segments_BxT: Tensor | None = None, padding_BxT: Tensor | None = None
    ) -> Tensor:
        """[B, T, N]: what the heads read; see `forward`."""
        return self.stack(tokens_BxT, segments_BxT=segments_BxT, padding_BxT=padding_BxT)

    def logits(self, x: Tensor) -> Tensor:
        """[..., N] -> logits of the tokens there, [..., V]."""
        x = self.transform_norm(self.phi(self.transform(x)))
        # µP: alpha_output, tuned; of what the weight reads and not of the bias, as in the reference's MuReadout
        return self.readout(x if self.output_mult == 1 else x * self.output_mult)


class Classifier(nn.Module):
    """The encoder and pooler of ``bert``, itself and no copy, with dropout and a new readout: tokens -> logits [B, C].

    The readout starts as all of ``bert``'s do: at zero, which is right at every width (App. D.2), or, without
    ``zero_readout``, from N(0, 1/width) (Hugging Face's is N(0, 0.02^2), at width 768 about half of that std). The
    rest is trained already: do not give it to `Plan.initialize`, which would rescale it.
    """

    def __init__(self, bert: Bert, classes: int) -> None:
        super().__init__()
        self.stack, self.pooler, self.drop = bert.stack, bert.pooler, Dropout(bert.c.dropout)
        self.readout = Readout(bert.c, classes)  # µP: OUTPUT
        self.readout.to(bert.pooler.weight.device)

    def forward(
        self, tokens_BxT: Tensor, segments_BxT: Tensor | None = None, padding_BxT: Tensor | None = None
    ) -> Tensor:
        x_BxTxN = self.stack(tokens_BxT, segments_BxT=segments_BxT, padding_BxT=padding_BxT)
        return self.readout(self.drop(pooled(self.pooler, x_BxTxN)))


def pooled(pooler: nn.Module, x_BxTxN: Tensor) -> Tensor:
    """[B, N]: what stands for the whole sequence, read at its first token."""
    return torch.tanh(pooler(x_BxTxN[:, 0]))
