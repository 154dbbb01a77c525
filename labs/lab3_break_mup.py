# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 3: break µP
#
# µP is a handful of rules (Table 3 of [arXiv:2203.03466](https://arxiv.org/abs/2203.03466)). Forget one, and training
# still runs: you lose the transfer, and nothing tells you. The *coordinate check* (Appendix D.1, Figure 5) does. It
# trains a few steps at several widths and looks at every activation: does its value, or its change since init, grow or
# shrink with width? In this lab you take out one rule at a time and learn to read what the check says.

# %%
import sys
from pathlib import Path

sys.path += [str(folder) for folder in Path.cwd().parents if (folder / "reproduce.sh").exists()]

import pandas as pd
import torch
from torch import nn

from labs.checks import lab3 as check
from labs.checks.base import scale
from mutransfer import MUP, SP, attention_scale, coord_check

torch.manual_seed(0)
widths, seeds, steps = [64, 128, 256, 512, 1024], 3, 3
if scale() == "smoke":  # for tests
    widths, seeds, steps = [64, 128, 256], 2, 2

# %% [markdown]
# The network has three layers whose names say what they are. It knows nothing of µP: the table that you give to
# `coord_check` decides init and learning rates.


# %%
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.input = nn.Linear(32, width, bias=False)
        self.hidden = nn.Linear(width, width, bias=False)
        self.readout = nn.Linear(width, 10, bias=False)

    def forward(self, x):
        return self.readout(torch.relu(self.hidden(torch.relu(self.input(x)))))


batch = torch.randn(64, 32), torch.randint(0, 10, (64,))


def measure(parametrization, optimizer):
    lr = {"adam": 0.01, "sgd": 0.1}[optimizer]
    settings = {"optimizer": optimizer, "lr": lr, "steps": steps, "seeds": seeds}
    return coord_check(Net, widths, [batch], parametrization=parametrization, **settings)


def exponents(frames):
    """Growth exponents side by side: of each layer's value at init, and of its change after the first step."""
    columns = {}
    for name, frame in frames.items():
        rows = frame.exponents().query("step <= 1 and activation != 'output'")
        columns[name] = rows.set_index(["activation", "kind"])["exponent"]
    return pd.DataFrame(columns).round(2)


# %% [markdown]
# An exponent of 0 means that width does not matter; theory's wrong ones are multiples of 1/2, so the check says `grows`
# above +0.25 and `shrinks` below -0.25. One exception: the readout's value *at init* may vanish (its change may not).
#
# ## SP and µP
#
# *Predict*, with what you derived in lab 2: which layers does the check find growing or shrinking in SP, with Adam?

# %%
# EXERCISE 3a: for each layer "ok", "grows" or "shrinks".
# STUDENT: prediction = {
# STUDENT:     "sp": {"input": ..., "hidden": ..., "readout": ...},
# STUDENT:     "mup": {"input": ..., "hidden": ..., "readout": ...},
# STUDENT: }
prediction = {
    "sp": {"input": "ok", "hidden": "grows", "readout": "grows"},  # input: Adam's LR there is SP's own
    "mup": {"input": "ok", "hidden": "ok", "readout": "ok"},
}

# %%
frames = {"sp": measure("sp", "adam"), "mup": measure("mup", "adam")}
check.ex3a(prediction, frames)

# %%
print(frames["sp"].verdict(), end="\n\n")
print(frames["mup"].verdict())

# %% [markdown]
# ## Take out one rule
#
# The tables are data. `print(MUP)` shows one; `MUP.rule("adam", Role.OUTPUT)` is one of its cells, with the entries
# `init_std` and `lr`; `MUP.with_entry("adam", Role.OUTPUT, lr=...)` is a copy with one entry changed.


# %%
# EXERCISE 3b: µP with a single entry put back to SP's. `entry` is a word: "lr" or "init_std".
def without(family, role, entry):
    # STUDENT: return ...  # your code
    return MUP.with_entry(family, role, **{entry: getattr(SP.rule(family, role), entry)})


# %%
check.ex3b(without)

# %%
print(SP, end="\n\n")
print(MUP)

# %% [markdown]
# ## What does each rule do?
#
# Under Adam, µP differs from SP in three entries. *Predict* what the check says without each of them.

# %%
# EXERCISE 3c: for each missing rule and each layer "ok", "grows" or "shrinks".
# STUDENT: prediction = {
# STUDENT:     "hidden lr": {"input": ..., "hidden": ..., "readout": ...},
# STUDENT:     "output init_std": {"input": ..., "hidden": ..., "readout": ...},
# STUDENT:     "output lr": {"input": ..., "hidden": ..., "readout": ...},
# STUDENT: }
prediction = {
    "hidden lr": {"input": "ok", "hidden": "grows", "readout": "grows"},  # dW x sums n aligned terms
    "output init_std": {"input": "ok", "hidden": "ok", "readout": "grows"},  # n^-1/2 on n aligned moves
    "output lr": {"input": "ok", "hidden": "ok", "readout": "grows"},
}

# %%
adam = {rule: measure(check.without("adam", rule), "adam") for rule in prediction}
check.ex3c(prediction, adam)

# %%
exponents({"mup": frames["mup"], **adam})

# %% [markdown]
# ## Which rule is missing?
#
# Now the other way round, as in practice: somebody's µP is broken, and all you have is the check. In the cases A, B and
# C (Adam) and D, E and F (SGD) one entry is SP's. The suspects are, with Adam, `"hidden lr"`, `"output init_std"` and
# `"output lr"`; with SGD `"input lr"`, `"output init_std"` and `"output lr"`. Two of them may have the same verdicts:
# then look at the exponents, and at init. (Measured exponents stay below theory's 1/2 and 1 at these widths: terms that
# do not grow still count beside those that do.)

# %%
cases = {}
for name in "ABCDEF":
    optimizer, parametrization = check.mystery(name)
    cases[name] = measure(parametrization, optimizer)
exponents(cases)

# %%
# EXERCISE 3d: the rule that each case lacks.
# STUDENT: culprit = {"A": ..., "B": ..., "C": ..., "D": ..., "E": ..., "F": ...}
culprit = {
    "A": "output init_std",
    "B": "output lr",
    "C": "hidden lr",
    "D": "output lr",
    "E": "output init_std",
    "F": "input lr",
}

# %%
check.ex3d(culprit)

# %% [markdown]
# ## What the check cannot see
#
# A check that passes proves less than one would like. One of SGD's rules can be taken out of *this* network without a
# trace. *Predict* which, from the table.

# %%
# EXERCISE 3e: "input lr", "hidden lr", "output init_std" or "output lr".
# STUDENT: unseen = ...
unseen = "hidden lr"  # fan_out / fan_in is 1 where both are n

# %%
sgd = {rule: measure(check.without("sgd", rule), "sgd") for rule in check.RULES}
check.ex3e(unseen, sgd)

# %%
exponents(sgd)

# %% [markdown]
# In which network would that rule be seen? (Think of a hidden layer whose two fans do not grow alike.)
#
# ## The rule that is in the module: 1/d attention
#
# One rule of µP stands not in the optimizer but in the forward pass: attention logits are scaled by 1/d, not by
# $1/\sqrt d$ (Definition 4.1). Here is one head of attention, whose size d is the width. All else is µP.


# %%
class Attention(nn.Module):
    def __init__(self, width, parametrization):
        super().__init__()
        self.scale = attention_scale(width, widths[0], parametrization=parametrization)
        self.embed = nn.Embedding(16, width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.logits = nn.Identity()  # so that the check sees them
        self.readout = nn.Linear(width, 16, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        logits = self.logits(self.query(x) @ self.key(x).transpose(1, 2) * self.scale)
        return self.readout(torch.softmax(logits, -1) @ self.value(x)).flatten(0, 1)


# %%
# EXERCISE 3f: what does the check say of the logits with each scale: "ok", "grows" or "shrinks"?
# (Their value at init is allowed to shrink.)
# STUDENT: prediction = {"1/sqrt(d)": ..., "1/d": ...}
prediction = {"1/sqrt(d)": "grows", "1/d": "ok"}

# %%
tokens = torch.randint(0, 16, (8, 17))
next_token = tokens[:, :-1], tokens[:, 1:].flatten()
attention = {}
for name, parametrization in {"1/sqrt(d)": "sp", "1/d": "mup"}.items():
    attention[name] = coord_check(
        lambda width, which=parametrization: Attention(width, which),
        widths,
        [next_token],
        optimizer="adam",
        lr=0.01,
        steps=steps,
        seeds=seeds,
        may_shrink_at_init=["logits"],
    )
check.ex3f(prediction, attention)

# %%
exponents(attention)

# %% [markdown]
# ## To think about
#
# 1. Would the *loss* have told you? Plot it over the steps for one broken table and for µP, at each width.
# 2. With a learning rate a thousand times smaller, would the check still find what is missing? Try it, with SP.
# 3. Why may the readout's value vanish at init, but not its change?
