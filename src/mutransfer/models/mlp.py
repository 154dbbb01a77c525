"""The MLP of Figures 3 and 9.

Letters: B batch, D inputs, N width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.errors import known

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}


class MLP(nn.Module):
    """Two hidden layers without biases; readout of zeros (App. D.2).

    input_mult, output_mult: the tuned multipliers of the paper's MLP experiments. ``input_mult`` multiplies the first
        layer's effective SGD learning rate and leaves its init alone: its root stands in the forward pass, its inverse
        root in the init. ``output_mult`` is alpha_output.
    """

    def __init__(
        self,
        width: int,
        *,
        inputs: int = 3072,
        classes: int = 10,
        nonlinearity: str = "relu",
        input_mult: float = 1.0,
        output_mult: float = 1.0,
    ):
        super().__init__()
        self.phi = NONLINEARITIES[known("nonlinearity", nonlinearity, NONLINEARITIES)]
        self.root_input_mult = input_mult**0.5  # µP: a mult, tuned at the base width
        self.output_mult = output_mult  # µP: a mult, tuned at the base width
        self.input = nn.Linear(inputs, width, bias=False)  # µP: INPUT
        self.hidden = nn.Linear(width, width, bias=False)  # µP: HIDDEN
        self.readout = nn.Linear(width, classes, bias=False)  # µP: OUTPUT
        nn.init.normal_(self.input.weight, std=inputs**-0.5 / self.root_input_mult)  # µP: Eq. (2), W1 ~ N(0, 1/D)
        nn.init.normal_(self.hidden.weight, std=width**-0.5)  # µP: Eq. (2), W2 ~ N(0, 1/N)
        nn.init.zeros_(self.readout.weight)  # µP: zero satisfies every parametrization's init (App. D.2)

    def forward(self, x_BxD: Tensor) -> Tensor:
        h_BxN = self.phi(self.input(x_BxD) * self.root_input_mult)
        h_BxN = self.phi(self.hidden(h_BxN))
        return self.readout(h_BxN) * self.output_mult
