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
# # Lab 1: see SP's optimum move
#
# You tune the learning rate of a small network, then train a large one. May you keep the learning rate? *Tensor
# Programs V* ([arXiv:2203.03466](https://arxiv.org/abs/2203.03466), Section 1, Figures 1 and 3) says: in the standard
# parametrization (SP, what PyTorch gives you) no, in the maximal update parametrization (µP) yes. In this lab you
# measure it on your own machine: an MLP with two hidden layers, plain SGD, five widths, seven learning rates.
#
# Replace each `...` in the cells marked `EXERCISE`, and run the cell below it: the check prints one line. The sweep
# takes a few minutes on two cores; the rest takes seconds.

# %%
import sys
from pathlib import Path

sys.path += [str(folder) for folder in Path.cwd().parents if (folder / "reproduce.sh").exists()]

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from data_scripts import cifar10
from labs.checks import lab1 as check
from labs.checks.base import scale
from mutransfer import scaling_plan, transfer_report
from mutransfer.data import synthetic_cifar
from mutransfer.models.mlp import MLP

# %% [markdown]
# ## What the paper saw
#
# Learning rates are compared in *octaves*: one octave is a factor of 2, so a learning rate of $2^{-5}$ is one octave
# above $2^{-6}$. In Figure 3 the best learning rate of SP falls by about an order of magnitude (a factor of 10)
# between width 256 and width 8192.

# %%
# EXERCISE 1a: by how many octaves does SP's best learning rate move in Figure 3 for each doubling of the width?
# A number; its sign says in which direction.
# STUDENT: figure3 = ...  # your code
figure3 = -np.log2(10) / np.log2(8192 / 256)

# %%
check.ex1a(figure3)

# %% [markdown]
# ## Predict, then measure
#
# Before anything is trained, write down what you expect at *your* widths. You will not be asked to be right the first
# time, but to say what you expected.

# %%
# EXERCISE 1b: when the width doubles, is the best learning rate "lower", the "same" or "higher"?
# STUDENT: prediction = {"sp": ..., "mup": ...}  # your words
prediction = {"sp": "lower", "mup": "same"}

# %% [markdown]
# The data: CIFAR-10 if it is on this machine or can be downloaded, else a procedural stand-in. Look at what it says.

# %%
smoke = scale() == "smoke"  # seconds instead of minutes, for tests
data = synthetic_cifar(n_train=4096, n_test=100) if smoke else cifar10.load()
print("training on:", data.source)
if not data.is_real:
    print("THIS IS NOT CIFAR-10. What you see below is measured on a stand-in: say so wherever you show it.")
images, labels = data.train_images.flatten(1), data.train_labels

# %% [markdown]
# The model is the suite's `MLP` (Eq. 2 of the paper, without biases, readout of zeros). Its two multipliers are those
# that the paper's authors tuned at the base width; with multipliers of 1 the shift of SP is hard to see.
#
# `scaling_plan` says how every tensor scales from the base width to the target. It is the *only* line in which SP and
# µP differ. Everything else in `train` is the textbook loop.

# %%
widths, log2_lrs, seeds, steps, batch = (64, 128, 256, 512, 1024), range(-9, -2), 2, 320, 64
if smoke:
    widths, log2_lrs, seeds, steps = (16, 32, 64), (-7, -5, -3), 1, 20


def build(width):
    return MLP(width, input_mult=2**-8, output_mult=32)


def train(parametrization, width, log2_lr, seed):
    """The final training loss (mean of the last tenth of the steps; Def. A.3), infinite if it diverged."""
    torch.manual_seed(seed)
    base, model = build(widths[0]), build(width)
    plan = scaling_plan(base, model, parametrization=parametrization, optimizer="sgd")
    plan.initialize(model, base)
    optimizer = torch.optim.SGD(plan.param_groups(model, lr=2.0**log2_lr))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    losses = []
    for rows in order[: steps * batch].view(steps, batch):
        loss = F.cross_entropy(model(images[rows] / 127.5 - 1), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not losses[-1] < 50:
            return np.inf
    final = np.mean(losses[-steps // 10 :])
    return final if final < 2 * losses[0] else np.inf


rows = []
for width in widths:
    for parametrization in ("sp", "mup"):
        for log2_lr in log2_lrs:
            for seed in range(seeds):
                loss = train(parametrization, width, log2_lr, seed)
                rows.append((parametrization, width, log2_lr, seed, loss))
    print(f"width {width}: done", flush=True)
runs = pd.DataFrame(rows, columns=["parametrization", "width", "log2_lr", "seed", "train_loss"])

# %% [markdown]
# The picture of Figure 3: one line per width, mean over seeds; a dot marks the best learning rate of each width. A line
# that ends early has diverged.

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for panel, name in zip(panels, ("sp", "mup"), strict=True):
    for k, width in enumerate(widths):
        mean = runs.query("parametrization == @name and width == @width").groupby("log2_lr")["train_loss"].mean()
        mean = mean[np.isfinite(mean)]
        color = plt.get_cmap("viridis")(k / len(widths))
        panel.plot(mean.index, mean, color=color, label=f"width {width}")
        panel.plot(mean.idxmin(), mean.min(), "o", color=color)
    panel.set(title={"sp": "SP", "mup": "µP"}[name], xlabel="log2 learning rate")
panels[0].set(ylabel="training loss (nats)", ylim=(None, 2.31))
panels[1].legend(frameon=False)
figure.suptitle(data.source, fontsize=8)
plt.show()

# %% [markdown]
# Now the suite's own report on the same runs. Compare it with what you predicted.

# %%
report = transfer_report(runs)
print(report)
check.ex1b(prediction, report)

# %% [markdown]
# ## Read off the optima
#
# The report refines each optimum by a parabola. Do it by hand first, on the grid: for each width, the learning rate
# with the least *mean* training loss over seeds. A learning rate at which a seed diverged cannot win.


# %%
# EXERCISE 1c: from `runs` (columns parametrization, width, log2_lr, seed, train_loss), the best log2 learning rate of
# one parametrization at each width, as a dict {width: log2_lr}.
def best_log2_lr(runs, parametrization):
    # STUDENT: return ...  # your code
    mean = runs[runs["parametrization"] == parametrization].groupby(["width", "log2_lr"])["train_loss"].mean()
    return {width: mean[width].idxmin() for width in mean.index.unique("width")}


# %%
check.ex1c(best_log2_lr, runs)

# %% [markdown]
# ## The drift
#
# The *drift* is the slope of the best log2 learning rate on log2 width (least squares), that is: octaves per doubling.
# It is one number for the whole figure, and can be set beside the paper's.

# %%
# EXERCISE 1d: the drift of SP and of µP, from your optima or from `report.optima`. (np.polyfit(x, y, 1)[0] is a slope.)
# STUDENT: drift = {"sp": ..., "mup": ...}  # your code
drift = {}
for name in ("sp", "mup"):
    best = best_log2_lr(runs, name)
    drift[name] = np.polyfit(np.log2(list(best)), list(best.values()), 1)[0]
print(drift)

# %%
check.ex1d(drift, runs)

# %% [markdown]
# ## What copying costs
#
# A drift matters only if missing the optimum costs something. The *regret* of the widest network is its loss at the
# learning rate that was best for the *narrowest* one, less its own least loss (means over seeds, on the grid).

# %%
# EXERCISE 1e: the regret of the widest network, in SP and in µP, in nats. (float("inf") if it diverged there.)
# STUDENT: regret = {"sp": ..., "mup": ...}  # your code
regret = {}
for name in ("sp", "mup"):
    wide = runs.query("parametrization == @name and width == @widths[-1]").groupby("log2_lr")["train_loss"].mean()
    regret[name] = wide[best_log2_lr(runs, name)[widths[0]]] - wide.min()
print(regret)

# %%
check.ex1e(regret, runs)

# %% [markdown]
# ## The verdict
#
# A slope from a few seeds has an interval. The suite's rule was fixed before any result: `stable` if the whole 95%
# interval lies within ±0.25 octave per doubling, `drifts` if it lies wholly outside, else `undecided`. Note what the
# rule does *not* ask: whether the interval contains zero.

# %%
# EXERCISE 1f: the verdict on four intervals of the drift.
# STUDENT: verdicts = {
# STUDENT:     (-0.87, -0.44): ...,
# STUDENT:     (-0.20, -0.05): ...,
# STUDENT:     (-0.40, 0.10): ...,
# STUDENT:     (0.30, 0.50): ...,
# STUDENT: }
verdicts = {
    (-0.87, -0.44): "drifts",
    (-0.20, -0.05): "stable",
    (-0.40, 0.10): "undecided",
    (0.30, 0.50): "drifts",
}

# %%
check.ex1f(verdicts)

# %% [markdown]
# ## To think about
#
# 1. At the base width SP and µP give the same runs, to the bit. Why must they, and what follows for tuning at the base
#    width?
# 2. Which of the two has the lower loss at the widest width, each at its own best learning rate? The paper says that
#    *wider is better* in µP throughout training (Section 8). Does your figure agree?
# 3. The narrow end of your figure is far from the paper's widths. What would you measure to know whether the drift goes
#    on, and what would it cost? (`./reproduce.sh plan cifar_mlp --scale gpu`)
