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
# # Lab 4: µTransfer: tune a proxy under a compute budget
#
# You may spend so much compute on a wide network, tuning included. Either you try a few settings on the wide network
# itself, or you try many on a narrow *proxy*, copy the winner and train the wide network once. That is Algorithm 1 of
# *Tensor Programs V* ([arXiv:2203.03466](https://arxiv.org/abs/2203.03466)); its Table 4 and Figure 6 compare the two
# at equal compute, each search repeated 25 times. Here you do the same at the size of a laptop, against direct tuning
# and against naive transfer (the same search, copied in SP). You declare how you will decide *before* you look, and
# `undecided` is one of the answers.
#
# Replace each `...` in the cells marked `EXERCISE`, and run the cell below it: the check prints one line. The searches
# start once 4a, 4b and 4e are right, and take a few minutes on two cores.

# %%
import math
import sys
from pathlib import Path

sys.path += [str(folder) for folder in Path.cwd().parents if (folder / "reproduce.sh").exists()]

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

from data_scripts import cifar10
from labs.checks import lab4 as check
from labs.checks.base import scale
from mutransfer import scaling_plan
from mutransfer.data import synthetic_cifar
from mutransfer.models.mlp import MLP

# %% [markdown]
# The data: CIFAR-10 if it is on this machine or can be downloaded, else a procedural stand-in. Images are shrunk to
# 16x16 pixels, so that the wide network fits a lab.

# %%
torch.set_num_threads(1)  # small matrices gain little from a second thread, and lose much where cores are shared
smoke = scale() == "smoke"  # seconds instead of minutes, for tests
data = synthetic_cifar(n_train=4096, n_test=100) if smoke else cifar10.load()
print("training on:", data.source)
if not data.is_real:
    print("THIS IS NOT CIFAR-10. What you see below is measured on a stand-in: say so wherever you show it.")
images = F.avg_pool2d(data.train_images.permute(0, 3, 1, 2).float() / 127.5 - 1, 2).flatten(1).contiguous()
labels, inputs, classes = data.train_labels, images.shape[1], 10

base_width, target_width, steps, batch = 64, 1024, 250, 128
searches, target_runs = 6, 3  # how often everything is repeated; the budget of one search, in runs of the target
if smoke:
    base_width, target_width, steps, searches, target_runs = 16, 64, 10, 3, 3

# %% [markdown]
# ## What a run costs
#
# Compute is counted in FLOPs. The product of a [B, N] and an [N, M] matrix costs 2 B N M (a multiplication and an
# addition each). The network has three matrices: inputs x width, width x width, width x classes. A training step
# multiplies with each of them forward, once more for the gradient of the matrix, and once more for the gradient of what
# went into it. (Does every layer need that last one?)


# %%
# EXERCISE 4a: the FLOPs of one training step.
def flops_per_step(width, batch, inputs, classes):
    # STUDENT: return ...  # your code
    three_passes = width * width + width * classes
    return 2 * batch * (2 * inputs * width + 3 * three_passes)  # nobody asks for the gradient of the images


# %%
right_4a = check.ex4a(flops_per_step)

# %% [markdown]
# ## How many samples that buys
#
# A method must *deliver a trained wide network* within the budget. Direct tuning delivers the best of its runs.
# µTransfer delivers the network that it trains after the search, with the winner's values.


# %%
# EXERCISE 4b: how many samples each method can try, as whole numbers. All three arguments are in FLOPs: the budget, and
# the cost of one run of the proxy and of the target.
def samples(budget, proxy_run, target_run):
    # STUDENT: return {"direct": ..., "transfer": ...}  # your code
    return {"direct": int(budget // target_run), "transfer": int((budget - target_run) // proxy_run)}


# %%
right_4b = check.ex4b(samples)

# %% [markdown]
# The paper's largest search (Section 7.4, App. F.4): proxies of 40 million parameters for a GPT-3 of 6.7 billion that
# trains on 300 billion tokens. 350 proxies trained on 4 billion tokens each and 117 on 16 billion. The cost of a run is
# taken as proportional to parameters times tokens.

# %%
# EXERCISE 4c: what the tuning cost, as a fraction of the target's own training.
# STUDENT: gpt3_tuning = ...  # your code
gpt3_tuning = 40e6 * (350 * 4e9 + 117 * 16e9) / (6.7e9 * 300e9)

# %%
check.ex4c(gpt3_tuning)

# %% [markdown]
# A *plan* relates a network to the base width: here is µP's for the target. Naive transfer needs the winner of a search
# on an *SP* proxy, and the proxy has the base width: look at the plans for *that* width, `parametrization="sp"` and
# `"mup"`, before you answer.


# %%
def build(width, alpha_output):
    return MLP(width, inputs=inputs, output_mult=alpha_output)


print(scaling_plan(build(base_width, 1.0), build(target_width, 1.0), parametrization="mup", optimizer="adam"))


# %%
# EXERCISE 4d: a search in µP has trained `n` proxies of the base width. How many more must naive transfer train for its
# own search over the same samples? A function of n.
def extra_runs(n):
    # STUDENT: return ...  # your code
    return 0  # at the base width every factor of every plan is 1: the runs are the same to the bit


# %%
check.ex4d(extra_runs)

# %% [markdown]
# ## Copy the winner
#
# Two hyperparameters are tuned: Adam's learning rate and the output multiplier `alpha_output`. Write the function that
# takes them to any width, in either parametrization. `scaling_plan(base, model, parametrization=..., optimizer="adam")`
# relates the model to the base; `plan.initialize(model, base)` gives the model the plan's init, and
# `plan.param_groups(model, lr=...)` the groups for an optimizer.


# %%
# EXERCISE 4e: the model of this width and its torch.optim.Adam, for hps = {"lr": ..., "alpha_output": ...}.
def transfer(hps, width, parametrization):
    # STUDENT: return ..., ...  # your code
    base, model = build(base_width, hps["alpha_output"]), build(width, hps["alpha_output"])
    plan = scaling_plan(base, model, parametrization=parametrization, optimizer="adam")
    plan.initialize(model, base)
    return model, torch.optim.Adam(plan.param_groups(model, lr=hps["lr"]))


# %%
right_4e = check.ex4e(transfer, base_width)

# %% [markdown]
# ## Predict, then measure
#
# Write down what you expect of µTransfer against each of the others, over the repeated searches: is its network
# "better" (lower training loss), "worse", or will it be "undecided"?

# %%
prediction = {"direct": "?", "naive": "?"}  # your words instead of "?"; 4g comes back to them

# %% [markdown]
# One run is the textbook loop. Its result is the mean training loss of the last fifth of the steps (training loss is
# the paper's metric, Def. A.3). A run that ends above the loss of guessing, ln 10 = 2.303 nats, diverged ones included,
# counts as that: nobody has to use a network that is worse than guessing. This rule too is declared beforehand.

# %%
GUESSING = math.log(classes)


def run(hps, width, parametrization, seed):
    """The final training loss in nats, at most that of guessing."""
    torch.manual_seed(seed)
    model, optimizer = transfer(hps, width, parametrization)
    order, losses = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        rows = torch.randint(len(labels), (batch,), generator=order)
        loss = F.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 0.8 * steps:
            losses.append(loss.item())
    return float(np.nan_to_num(np.minimum(np.mean(losses), GUESSING), nan=GUESSING))


def draw(rng):
    """One sample: both log-uniform, over the ranges of the paper's search for GPT-3 (App. F.4)."""
    return {"lr": 10 ** rng.uniform(-4, -1), "alpha_output": 4 ** rng.uniform(-1, 1)}


def search(count, width, seed):
    """The best of `count` random samples at this width, its loss, and all of them."""
    rng = np.random.default_rng([seed, width])
    tried = [draw(rng) for _ in range(count)]
    losses = [run(hps, width, "mup", 1000 * seed + k) for k, hps in enumerate(tried)]
    best = int(np.argmin(losses))
    return tried[best], losses[best], [{**hps, "loss": loss} for hps, loss in zip(tried, losses, strict=True)]


# %% [markdown]
# Everything is repeated with independent samples and seeds. Direct tuning, too, works on a µP network, so that only
# the place of the search differs. At the end a *judge* trains each method's choice with a seed that none of them has
# seen; for µTransfer and naive transfer that run is the one they paid for, to direct tuning it is given for nothing.
#
# (The table is kept as `results`: a row for every search and method.)

# %%
methods = {"direct": "direct tuning", "naive": "naive transfer (SP)", "transfer": "µTransfer"}
results = pd.DataFrame(
    [{"search": 0, "method": name, "search_loss": np.nan, "judged_loss": np.nan} for name in methods]
)
is_ready = right_4a and right_4b and right_4e
if is_ready:
    proxy_run = steps * flops_per_step(base_width, batch, inputs, classes)
    target_run = steps * flops_per_step(target_width, batch, inputs, classes)
    budget = target_runs * target_run
    count = samples(budget, proxy_run, target_run)
    print(f"budget of a search: {budget:.3g} FLOPs; samples: {count}")
    rows, pool = [], []
    for seed in range(searches):
        found = {"direct": search(count["direct"], target_width, seed)}
        found["transfer"] = found["naive"] = search(count["transfer"], base_width, seed)  # 4d says why one will do
        pool += [{**one, "search": seed, "method": name} for name in ("direct", "transfer") for one in found[name][2]]
        for method, (hps, loss, _) in found.items():
            judged = run(hps, target_width, "sp" if method == "naive" else "mup", 10**6 + seed)
            rows.append({"search": seed, "method": method, **hps, "search_loss": loss, "judged_loss": judged})
        print(f"search {seed + 1} of {searches}: done", flush=True)
    results, pool = pd.DataFrame(rows), pd.DataFrame(pool)
    print(results.round(4).to_string(index=False))
else:
    print("The searches wait for 4a, 4b and 4e.")

# %% [markdown]
# Left: all samples; right: what the judge saw, one line per search. Which method depends most on the luck of its
# search?

# %%
if is_ready:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for method, width, mark in (("transfer", base_width, "."), ("direct", target_width, "s")):
        mine = pool[pool["method"] == method]
        left.plot(np.log2(mine["lr"]), mine["loss"], mark, alpha=0.6, label=f"width {width}: {len(mine)} samples")
    left.axhline(GUESSING, color="grey", linestyle=":", linewidth=1)
    left.set(xlabel="log2 learning rate", ylabel="training loss (nats)", title="samples of all searches")
    left.legend(frameon=False)
    judged = results.pivot(index="search", columns="method", values="judged_loss")[list(methods)]
    right.plot(list(methods.values()), judged.T, "o-", color="C0", alpha=0.5, linewidth=1)
    right.plot(list(methods.values()), judged.mean(), "k_", markersize=24)
    right.set(title=f"judged at width {target_width}, equal compute")
    figure.suptitle(data.source, fontsize=8)
    plt.show()

# %% [markdown]
# ## Decide, honestly
#
# The searches are paired: search k of every method has the same judge's seed. So take the *differences* of the judged
# losses, µTransfer less the other, one a search. Their mean has a 95% interval: so many standard errors to either side,
# which for few values are more than the 1.96 of the normal distribution.

# %%
print({n: f"{stats.t.ppf(0.975, n - 1):.2f}" for n in (2, 3, 6, 12, 100)})


# %%
# EXERCISE 4f: the 95% interval (low, high) of the mean of a few differences.
def interval(differences):
    # STUDENT: return ..., ...  # your code
    n = len(differences)
    half = stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    return np.mean(differences) - half, np.mean(differences) + half


# %%
check.ex4f(interval)

# %% [markdown]
# The rule: µTransfer is `better` if the whole interval lies below zero, `worse` if above, else `undecided`.

# %%
# EXERCISE 4g: the conclusion on µTransfer against "direct" and against "naive", from `results`.
# STUDENT: conclusion = {"direct": ..., "naive": ...}  # your code or your words
conclusion = {}
for other in ("direct", "naive"):
    judged = results.pivot(index="search", columns="method", values="judged_loss")
    low, high = interval(judged["transfer"] - judged[other])
    conclusion[other] = "better" if high < 0 else "worse" if low > 0 else "undecided"
    print(f"µTransfer less {other}: {low:+.4f} to {high:+.4f} nats")

# %%
check.ex4g(conclusion, results)
print("you predicted:", prediction)

# %% [markdown]
# ## The winner's curse
#
# The loss that a search reports for its winner is the least of several noisy ones. The judge trains the same
# hyperparameters at the same width with another seed. By how much is the search too optimistic?

# %%
# EXERCISE 4h: the mean over searches of (judged loss - loss in the search), for the one method of the three for which
# these two are losses of the same network. A number.
# STUDENT: optimism = ...  # your code
direct = results.query("method == 'direct'")
gap = direct["judged_loss"] - direct["search_loss"]
optimism = gap.mean()
low, high = interval(gap)
print(f"{optimism:+.4f} nats, interval {low:+.4f} to {high:+.4f}")

# %%
check.ex4h(optimism, results)

# %% [markdown]
# ## To think about
#
# 1. The budget was counted in FLOPs. Time the two kinds of run: is a FLOP of the proxy as cheap on your machine as one
#    of the target? What would change if the budget were in seconds?
# 2. Double and halve `target_runs`. At which budget would direct tuning catch up? (Figure 6 of the paper, left.)
# 3. SP, *tuned at the wide width*, may end lower than µP does here (look at `figures/cifar_mlp/tune/table.md` and the
#    README of `experiments/transformer_lm`). Why does that not contradict what you found?
# 4. If you had run one search only, how likely would you have been to conclude something else?
