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
# # Lab 5: beyond width
#
# µP is a theory of *width*. *Tensor Programs V* ([arXiv:2203.03466](https://arxiv.org/abs/2203.03466)) also copies
# hyperparameters over depth, batch size, sequence length and training time, and is careful to say on what ground, and
# where it stops (Tables 1 and 2, Section 6.1). In this lab you read real runs for what they do and do not show, find
# out why depth is different, and see what weight decay does over width in its two conventions.
#
# The large runs are committed with the suite; you read them. The small ones (depth, weight decay) you train: a few
# minutes on two cores. Replace each `...` in the cells marked `EXERCISE`, and run the cell below it.

# %%
import sys
from pathlib import Path

sys.path += [str(folder) for folder in Path.cwd().parents if (folder / "reproduce.sh").exists()]

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from data_scripts import cifar10
from labs.checks import lab5 as check
from labs.checks.base import scale
from mutransfer import scaling_plan
from mutransfer.data import synthetic_cifar
from mutransfer.models.mlp import MLP
from mutransfer.results import landscape_report

torch.set_num_threads(1)  # small matrices gain little from a second thread, and lose much where cores are shared
smoke = scale() == "smoke"  # seconds instead of minutes, for tests

# %% [markdown]
# ## What the paper promises
#
# Table 1 of the paper sorts hyperparameters by whether µTransfer may copy them, Table 2 the directions of scale in
# which it does.

# %%
# EXERCISE 5a: may it be copied to a wider network, according to Table 1? True or False.
# STUDENT: copied = {
# STUDENT:     "learning rate": ...,
# STUDENT:     "LR schedule": ...,
# STUDENT:     "Adam's beta": ...,
# STUDENT:     "init std of a layer": ...,
# STUDENT:     "output multiplier": ...,
# STUDENT:     "dropout": ...,
# STUDENT:     "weight decay": ...,
# STUDENT: }
copied = {
    "learning rate": True,
    "LR schedule": True,
    "Adam's beta": True,
    "init std of a layer": True,
    "output multiplier": True,
    "dropout": False,  # regularisation depends on the size of the model and of the data set
    "weight decay": False,
}

# %%
check.ex5a(copied)

# %% [markdown]
# ## Depth: read the runs
#
# The suite trained what Figures 4, 17 and 19 show, at a size for two cores: pre-LN and post-LN Transformers, four
# hyperparameters, over width, depth, batch size, sequence length and steps. A *panel* is the loss against one
# hyperparameter `x`, a *line* of it one depth (or batch size, ...).

# %%
runs = {name: pd.read_csv(check.FIGURES / name / "runs.csv") for name in ("figure_4", "figure_17", "figure_19")}
for name, frame in runs.items():
    print(f"{name}: {len(frame)} runs on {', '.join(frame['data'].unique())}, {', '.join(frame['variant'].unique())}")
    print("   ", ", ".join(frame["panel"].unique()))

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for panel, x_name in zip(panels, ("log2_lr", "init_mult"), strict=True):
    mine = runs["figure_4"].query(f"panel == 'mup/depth/{x_name}'").astype({"x": float})
    for k, (depth, line) in enumerate(mine.groupby("line")):
        mean = line.groupby("x")["train_loss"].mean()
        color = plt.get_cmap("viridis")(k / 3)
        panel.plot(mean.index, mean, color=color, label=f"depth {depth:g}")
        panel.plot(mean.idxmin(), mean.min(), "o", color=color)
    panel.set(xlabel={"log2_lr": "log2 learning rate", "init_mult": "log2 init std"}[x_name])
panels[0].set(ylabel="training loss (nats)", ylim=(2.4, 3.0))
panels[0].legend(frameon=False)
figure.suptitle("Figure 4, second row, at cpu scale: µP, pre-LN, over depth", fontsize=9)
plt.show()

# %% [markdown]
# Section 6.1 gives a rule of thumb: for language modelling, transfer works if width >= 256, depth >= 4, batch size
# >= 32, sequence length >= 128 and steps >= 5000. Its exceptions: the init std across depth, and depth in post-LN. It
# claims something only about runs that meet *all* of it, the smallest ones included.

# %%
# EXERCISE 5b: which conditions do *all* runs of the panel "mup/depth/log2_lr" of Figure 4 meet? True or False; the
# columns of the table have these names.
depth_runs = runs["figure_4"].query("panel == 'mup/depth/log2_lr'")
# STUDENT: met = {"width": ..., "depth": ..., "batch": ..., "length": ..., "steps": ...}  # your code
least = {"width": 256, "depth": 4, "batch": 32, "length": 128, "steps": 5000}
met = {name: bool((depth_runs[name] >= value).all()) for name, value in least.items()}

# %%
check.ex5b(met, depth_runs)

# %% [markdown]
# How much would copying cost? The *regret* of the largest line: its mean loss over seeds at the choice that is best for
# the smallest line, less its own least mean loss.


# %%
# EXERCISE 5c: from the runs of one panel (columns x, line, seed, train_loss), the regret of its largest line.
def regret(panel_runs):
    # STUDENT: return ...  # your code
    mean = panel_runs.groupby(["line", "x"])["train_loss"].mean().unstack("x")
    first, last = mean.loc[mean.index.min()], mean.loc[mean.index.max()]
    return last[first.idxmin()] - last.min()


# %%
check.ex5c(regret, runs["figure_4"])

# %% [markdown]
# The suite's rule for a panel: `transfers` if the smallest line's best choice lies in the 95% interval of the largest
# line's; `does not transfer` if not; `undecided` where either best choice is on the edge of the grid.

# %%
for name, frame in runs.items():
    print(name)
    for report in landscape_report(frame, axes=check.axes(frame)).values():
        print("  ", report)

# %% [markdown]
# Now be a careful reader. A panel that nobody trained says nothing.

# %%
# EXERCISE 5d: what do these runs say of each statement: "transfers", "does not transfer", "undecided" or "not tested"?
# STUDENT: read = {
# STUDENT:     "pre-LN: the learning rate over depth": ...,
# STUDENT:     "pre-LN: the init std over depth": ...,
# STUDENT:     "post-LN: the learning rate over depth": ...,
# STUDENT:     "post-LN: the output multiplier over width": ...,
# STUDENT:     "pre-LN: the learning rate over batch size": ...,
# STUDENT:     "pre-LN: the init std over batch size": ...,
# STUDENT: }
tables = {name: landscape_report(frame, axes=check.axes(frame)) for name, frame in runs.items()}
read = {
    "pre-LN: the learning rate over depth": tables["figure_4"]["mup/depth/log2_lr"].verdict,
    "pre-LN: the init std over depth": tables["figure_4"]["mup/depth/init_mult"].verdict,
    "post-LN: the learning rate over depth": "not tested",
    "post-LN: the output multiplier over width": tables["figure_17"]["mup/width/output_mult"].verdict,
    "pre-LN: the learning rate over batch size": tables["figure_19"]["mup/batch/log2_lr"].verdict,
    "pre-LN: the init std over batch size": tables["figure_19"]["mup/batch/init_mult"].verdict,
}

# %%
check.ex5d(read)

# %% [markdown]
# ## Why depth is different
#
# A residual network adds L branches to its stream: $h \leftarrow h + L^{-\alpha} f(h)$. The paper leaves the branches
# alone ($\alpha = 0$), and its rules look at width only. So let the *depth* grow: how does the size of the stream at
# the end go with L at init, and how does its *change* in one step of Adam, whose updates all push in a direction that
# lowers the loss? (In lab 2 you met both sums: of independent terms, and of aligned ones.)

# %%
# EXERCISE 5e: the exponents k of size ~ L^k, for three alphas: of the stream's coordinates at init, and of their change
# in one step of Adam. The stream starts with an embedding of size 1, whatever the depth.
# STUDENT: growth = {
# STUDENT:     0.0: {"init": ..., "change": ...},  # the paper's
# STUDENT:     0.5: {"init": ..., "change": ...},  # Depth-µP (arXiv:2310.02244)
# STUDENT:     1.0: {"init": ..., "change": ...},  # CompleteP (arXiv:2505.01618)
# STUDENT: }
growth = {
    0.0: {"init": 0.5, "change": 1.0},  # independent branches: sqrt(L); aligned updates: L
    0.5: {"init": 0.0, "change": 0.5},
    1.0: {"init": 0.0, "change": 0.0},  # the branches vanish, the embedding stays
}


# %%
class Residual(nn.Module):
    def __init__(self, depth, alpha, width):
        super().__init__()
        self.branch_mult = depth**-alpha
        self.embedding = nn.Linear(32, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = nn.Linear(width, 10, bias=False)
        nn.init.normal_(self.embedding.weight, std=32**-0.5)
        for block in self.blocks:
            nn.init.normal_(block.weight, std=(2 / width) ** 0.5)  # 2: half of the coordinates are behind the ReLU
        nn.init.normal_(self.readout.weight, std=1 / width)

    def stream(self, x):
        h = self.embedding(x)
        for block in self.blocks:
            h = h + self.branch_mult * block(torch.relu(F.layer_norm(h, h.shape[-1:])))  # pre-LN
        return h

    def forward(self, x):
        return self.readout(F.layer_norm(self.stream(x), [self.readout.in_features]))


def sizes(depth, alpha, seed, width=64 if smoke else 256):
    """Coordinate size of the last stream at init, and of its change in one step of Adam."""
    torch.manual_seed(seed)
    model, x, y = Residual(depth, alpha, width), torch.randn(16, 32), torch.randint(0, 10, (16,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)  # small: the change is that of the first order
    before = model.stream(x).detach()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    return before.std().item(), (model.stream(x).detach() - before).std().item()


depths, seeds = ((4, 8, 16), 2) if smoke else ((4, 8, 16, 32, 64), 3)
measured = pd.DataFrame(
    [(alpha, depth, seed, *sizes(depth, alpha, seed)) for alpha in growth for depth in depths for seed in range(seeds)],
    columns=["alpha", "depth", "seed", "init", "change"],
)
figure, panels = plt.subplots(1, 2, figsize=(10, 4))
for panel, what in zip(panels, ("init", "change"), strict=True):
    for alpha, line in measured.groupby("alpha"):
        mean = line.groupby("depth")[what].mean()
        panel.loglog(mean.index, mean, "o-", base=2, label=f"alpha {alpha:g}")
    panel.set(xlabel="depth L", title={"init": "stream at init", "change": "its change in one step"}[what])
panels[0].set_ylabel("coordinate size (std)")
panels[0].legend(frameon=False)
plt.show()

# %%
check.ex5e(growth, measured)

# %% [markdown]
# ## Batch size
#
# Two rules of practice say how the best learning rate goes with batch size B: like B ("linear scaling"), or like its
# root, which is often said of Adam. Copying it unchanged is a third. The suite has runs over B = 2, 4, 8 (steps fixed,
# as in the paper), in pre-LN (Figure 19) and post-LN (Figure 17). The *drift* of a panel is the slope of the best
# log2 learning rate on log2 B, with a 95% interval.

# %%
drifts = {
    norm: landscape_report(runs[name], axes=check.axes(runs[name]))["mup/batch/log2_lr"].drift
    for norm, name in (("pre-LN", "figure_19"), ("post-LN", "figure_17"))
}
print({norm: drift.text() for norm, drift in drifts.items()})

# %%
# EXERCISE 5f: which of the three rules are compatible with each interval? A set of exponents for each: of 0 (copy),
# 0.5 (root) and 1 (linear); set() if none.
# STUDENT: compatible = {"pre-LN": ..., "post-LN": ...}
compatible = {norm: {k for k in (0, 0.5, 1) if drift.low <= k <= drift.high} for norm, drift in drifts.items()}
print(compatible)

# %%
check.ex5f(compatible, drifts)

# %% [markdown]
# ## Weight decay over width
#
# AdamW shrinks each weight by a factor of 1 - (learning rate) x (weight decay) in every step. µP divides the learning
# rate of a hidden tensor by the width ratio m. The *coupled* convention leaves the weight decay as it is; the
# *independent* one keeps the product: `scaling_plan(..., weight_decay="independent")`, the default here.


# %%
# EXERCISE 5g: the share of a hidden weight that is left after so many steps of AdamW in which its gradient is zero.
# lr and weight_decay are those of the base width, m is the width ratio, convention is "independent" or "coupled".
def share_left(lr, weight_decay, m, steps, convention):
    # STUDENT: return ...  # your code
    own_decay = weight_decay * m if convention == "independent" else weight_decay
    return (1 - lr / m * own_decay) ** steps


# %%
check.ex5g(share_left)

# %% [markdown]
# Predict. Suppose that the best weight decay at any width is the one that leaves the same share of the hidden weights.
# (It need not be: regularisation is outside of what the paper promises. That is why you measure next.)

# %%
# EXERCISE 5h: by how many octaves (factors of 2) would the base's best weight decay then move from width 64 to 512?
# STUDENT: octaves = {"independent": ..., "coupled": ...}
octaves = {"independent": 0, "coupled": 3}  # coupled: the decay must make up for lr / 8

# %%
check.ex5h(octaves)

# %% [markdown]
# Now measure: few images and many epochs, so that the network overfits and weight decay has something to do. The loss
# that counts is therefore the *test* loss. The learning rate is fixed; at the base width both conventions are the same.

# %%
data = synthetic_cifar(n_train=512, n_test=200) if smoke else cifar10.load()
print("training on:", data.source)
if not data.is_real:
    print("THIS IS NOT CIFAR-10. What you see below is measured on a stand-in: say so wherever you show it.")
train_images, test_images, steps, batch = 2000, 4000, 400, 128
widths, log2_decays, decay_seeds = (64, 512), range(8), 2
if smoke:
    train_images, test_images, steps, widths, log2_decays = 512, 200, 4, (16, 128), (0, 3, 6)


def prepared(images):
    return F.avg_pool2d(images.permute(0, 3, 1, 2).float() / 127.5 - 1, 2).flatten(1).contiguous()  # 16x16 pixels


x, y = prepared(data.train_images[:train_images]), data.train_labels[:train_images]
x_test, y_test = prepared(data.test_images[:test_images]), data.test_labels[:test_images]


def train(convention, width, log2_decay, seed):
    """Final training loss (mean of the last tenth of the steps) and test loss, in nats."""
    torch.manual_seed(seed)
    base, model = (MLP(n, inputs=x.shape[1], output_mult=4.0) for n in (widths[0], width))
    plan = scaling_plan(base, model, parametrization="mup", optimizer="adamw", weight_decay=convention)
    plan.initialize(model, base)
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=2.0**-8, weight_decay=2.0**log2_decay))
    order, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        rows = torch.randint(len(y), (batch,), generator=order)
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        test_loss = F.cross_entropy(model(x_test), y_test).item()
    return np.mean(losses[-max(steps // 10, 1) :]), test_loss


rows = []
for width in widths:
    for k in log2_decays:
        for seed in range(decay_seeds):
            for convention in ("independent", "coupled"):
                if convention == "independent" or width > widths[0]:
                    losses = train(convention, width, k, seed)
                rows.append((convention, k, width, seed, *losses))  # the base width's runs stand in both panels
    print(f"width {width}: done", flush=True)
decay_runs = pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "train_loss", "test_loss"])

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for panel, convention in zip(panels, ("independent", "coupled"), strict=True):
    for k, width in enumerate(widths):
        mean = decay_runs.query(f"panel == @convention and line == {width}").groupby("x")["test_loss"].mean()
        panel.plot(mean.index, mean, color=f"C{k}", label=f"width {width}")
        panel.plot(mean.idxmin(), mean.min(), "o", color=f"C{k}")
    panel.set(xlabel="log2 weight decay (the base's)", title=convention)
panels[0].set_ylabel("test loss (nats)")
panels[0].legend(frameon=False)
figure.suptitle(data.source, fontsize=8)
plt.show()
axes = dict.fromkeys(("independent", "coupled"), check.DECAY_AXIS)
for report in landscape_report(decay_runs, axes=axes, metric="test_loss").values():
    print(report)

# %%
# EXERCISE 5i: from `decay_runs`, the best log2 weight decay of both widths (by mean test loss over seeds) in each
# convention: {"independent": {width: log2 weight decay, ...}, "coupled": {...}}. Does it move as you predicted?
# STUDENT: best_decay = {"independent": ..., "coupled": ...}  # your code
mean = decay_runs.groupby(["panel", "line", "x"])["test_loss"].mean().unstack("x")
best_decay = {convention: mean.loc[convention].idxmin(axis=1).to_dict() for convention in ("independent", "coupled")}
print(best_decay)

# %%
check.ex5i(best_decay, decay_runs)

# %% [markdown]
# ## To think about
#
# 1. The paper names the init std over depth as an exception. Does the panel of 5d contradict it? Look at the regret
#    with its interval, at the line of depth 4, and at your answer to 5b.
# 2. Your exponents of 5e are those of a sum of L terms. Which of them would you repair first, and does the paper's
#    learning rate over depth show that it needs repair (5d)?
# 3. With two seeds and three batch sizes, how sure is an interval? What would you run to tell root from linear?
# 4. Does weight decay transfer, then? Name three things that your experiment of 5i does not vary.
# 5. Of everything that the paper copies, what has a theory, and what rests on experiments with Transformers alone?
