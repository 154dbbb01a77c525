"""Small networks that the tests scale."""

import torch
import torch.nn.functional as F
from torch import nn

from mutransfer import attention_scale


class MLP(nn.Module):
    def __init__(self, width: int, depth: int = 2, bias: bool = True, d_in: int = 32, zero_readout: bool = False):
        super().__init__()
        self.embed = nn.Linear(d_in, width, bias=bias)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(depth - 1))
        self.readout = nn.Linear(width, 10, bias=bias)
        if zero_readout:
            nn.init.zeros_(self.readout.weight)

    def forward(self, x):
        x = F.relu(self.embed(x))
        for block in self.blocks:
            x = F.relu(block(x))
        return self.readout(x)


class ConvNet(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.GroupNorm(2, 2 * width)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, d_model: int, n_head: int, base_d_head: int, parametrization: str):
        super().__init__()
        self.n_head = n_head
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        with torch.no_grad():
            self.qkv.weight[:d_model] = 0  # queries start at zero (App. D.2)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.logits = nn.Identity()  # for the coordinate check to see
        self.scale = attention_scale(d_model // n_head, base_d_head, parametrization=parametrization)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        weights = self.logits(q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, d_model: int, n_head: int, base_d_head: int, parametrization: str):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn = Attention(d_model, n_head, base_d_head, parametrization)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.ReLU(), nn.Linear(4 * d_model, d_model))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Transformer(nn.Module):
    """Pre-LN decoder without a mask; ``vocab`` tokens in, ``vocab`` logits out; the readout may be tied."""

    def __init__(self, width, depth=2, n_head=2, base_width=32, vocab=50, tied=False, parametrization="mup"):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, n_head, base_width // n_head, parametrization) for _ in range(depth))
        self.ln = nn.LayerNorm(width)
        self.readout = nn.Linear(width, vocab, bias=False)
        if tied:
            self.readout.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.readout(self.ln(x))


def grows(verdict):
    """The activations that a coordinate check sees growing."""
    return {name for name, row in verdict.items() if row["verdict"] == "grows"}


def vectors(n=64, d_in=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d_in, generator=g), torch.randint(0, 10, (n,), generator=g)


def tokens(n=8, length=16, vocab=50, seed=0):
    g = torch.Generator().manual_seed(seed)
    t = torch.randint(0, vocab, (n, length + 1), generator=g)
    return t[:, :-1], t[:, 1:]
