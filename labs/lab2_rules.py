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
# # Lab 2: derive the rules
#
# Table 3 of *Tensor Programs V* ([arXiv:2203.03466](https://arxiv.org/abs/2203.03466)) says by which power of the width
# every tensor's init and learning rate must change. You can derive it with two theorems from a first course in
# probability (Appendix J.2.1), and this lab checks each step with numbers. Every answer is an *exponent of the width
# n*: `-0.5` for $1/\sqrt n$, `0` for "does not change".
#
# What must hold (Section 5; the *desiderata* of Appendix J.2): as n grows, every activation, and how much it changes in
# a step of training, has coordinates of size $\Theta(1)$: not 0, so that every layer learns; not infinite.

# %%
import sys
from pathlib import Path

sys.path += [str(folder) for folder in Path.cwd().parents if (folder / "reproduce.sh").exists()]

import matplotlib.pyplot as plt

from labs.checks import lab2 as check
from mutransfer import MUP, SP

# %% [markdown]
# ## 1. Two ways for a sum to grow
#
# A unit adds up n products $w_i x_i$. *Predict* how the size of the sum goes with n in two cases, then compare with
# the plot below:
#
# - **independent**: $w_i$ and $x_i$ know nothing of each other, mean 0 (the central limit theorem);
# - **aligned**: $x_i$ has the sign of $w_i$, so that every product is positive (the law of large numbers).

# %%
# EXERCISE 2a: the exponent k in "the size of the sum is about n^k".
# STUDENT: exponents = {"independent": ..., "aligned": ...}
exponents = {"independent": 0.5, "aligned": 1}  # variances add up; means add up

# %%
check.ex2a(exponents)

# %%
ns = [2**k for k in range(4, 13)]
for kind, marker in (("independent", "o"), ("aligned", "s")):
    plt.loglog(ns, [check.rms(check.sums(n, kind)) for n in ns], marker + "-", base=2, label=kind)
plt.xlabel("n")
plt.ylabel("size of the sum (rms)")
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# All that follows is this one question, asked of one sum after another: *are its terms independent or aligned?*
#
# ## 2. Init of hidden weights
#
# At init the n weights of a unit know nothing of the activations that they multiply, whose coordinates have size 1.

# %%
# EXERCISE 2b: the exponent of the init *standard deviation* of hidden weights.
# STUDENT: hidden_init = ...
hidden_init = -0.5  # n independent terms: sqrt(n)

# %%
check.ex2b(hidden_init)

# %% [markdown]
# ## 3. Init of the readout
#
# The same argument would give the readout the same std, and SP does. But after the first steps the features x have
# learnt. The gradient of the output with respect to $x_i$ *is* the readout weight $w_i$: features move along w, by
# $\Delta x_i$ of size 1 (we want that!) with the sign of $w_i$. The output moves by $\sum_i w_i \Delta x_i$.

# %%
# EXERCISE 2c: the exponent of the readout's init std with which that move is of size 1.
# STUDENT: output_init = ...
output_init = -1  # n aligned terms: n

# %%
check.ex2c(output_init)

# %% [markdown]
# ## 4. Learning rates under Adam
#
# Adam divides the gradient by its own size: in the first step, every entry of the update is the learning rate times a
# sign. For one example the gradient of a weight is an outer product, $\delta_i x_j$; so the update of unit i is
# $\Delta W_{ij} = \eta\, \mathrm{sign}(\delta_i)\, \mathrm{sign}(x_j)$, and it changes the unit by
# $\sum_j \Delta W_{ij} x_j$. The input layer sums over the d inputs, which do not grow; the others over n features.

# %%
# EXERCISE 2d: the exponents of Adam's learning rates.
# STUDENT: adam_lr = {"input": ..., "hidden": ..., "output": ...}
adam_lr = {"input": 0, "hidden": -1, "output": -1}  # aligned sums over d, n and n terms, each of the LR's size

# %%
check.ex2d(adam_lr)

# %% [markdown]
# ## 5. Learning rates under SGD
#
# Now the gradient keeps its size, $\Delta W_{ij} = \eta\, \delta_i x_j$, and $\delta$ has a power of n of its own: it
# has come back through the readout, whose weights have the size that you found in 2c. (Passing back through a hidden
# layer of 2b does not change it. For the readout itself, $\delta$ is the gradient of the loss: of size 1.)

# %%
# EXERCISE 2e: the exponents of SGD's learning rates.
# STUDENT: sgd_lr = {"input": ..., "hidden": ..., "output": ...}
# input: delta is 1/n, over d inputs; hidden: delta is 1/n, over n features; output: delta is 1, over n features
sgd_lr = {"input": 1, "hidden": 0, "output": -1}

# %%
check.ex2e(sgd_lr)

# %% [markdown]
# `check.update_growth` is the measurement behind these two checks: a real ReLU network with µP's init takes one step at
# widths 64 to 1024, and the growth exponent of every layer's update, $\Delta W x$, is fitted. Here with one learning
# rate for all layers, as in SP. Read off which layer blows up and which is frozen:

# %%
for optimizer in ("adam", "sgd"):
    print(optimizer, check.update_growth(optimizer, {"input": 0, "hidden": 0, "output": 0}))

# %% [markdown]
# ## 6. Attention
#
# An attention logit is q.k, a sum over the $d$ entries of a head, times a power of $d$. At init q and k are
# independent. Training makes queries look for keys (Definition 4.1).

# %%
# EXERCISE 2f: the exponent of d that keeps the logits of size 1, at init and when queries have learnt.
# STUDENT: attention = {"at init": ..., "trained": ...}
attention = {"at init": -0.5, "trained": -1}

# %%
check.ex2f(attention)

# %% [markdown]
# Two exponents, and one scale can have only one of them. Which one does µP take, and what does that mean for the logits
# at init? (Appendix D.2 has the answer to the second question: they may as well start at zero.)
#
# ## 7. Compare with the tables
#
# The suite holds Table 3 as data. `fan_in` and `fan_out` are both n for hidden weights; an input layer's `fan_in` and a
# readout's `fan_out` do not grow. The entries are standard deviations, where the paper prints variances.

# %%
print(SP, end="\n\n")
print(MUP)

# %%
# EXERCISE 2g: which entries differ between SP and µP when all hidden widths are n? For each optimizer a list of some of
# "input init_std", "input lr", "hidden init_std", "hidden lr", "output init_std", "output lr".
# STUDENT: changed = {"adam": ..., "sgd": ...}
changed = {
    "adam": ["hidden lr", "output init_std", "output lr"],
    "sgd": ["input lr", "output init_std", "output lr"],  # fan_out / fan_in is 1
}

# %%
check.ex2g(changed)

# %%
check.compare(adam_lr, "adam")  # your derivation beside the tables
check.compare(sgd_lr, "sgd")

# %% [markdown]
# ## 8. One function, many tables (Lemma J.1)
#
# The `mup` package writes the readout differently (Table 8): the forward pass multiplies its weights by $1/n$. The same
# function is trained if init and learning rate make up for that. For a multiplier $\theta$ more, the std is divided by
# $\theta$; SGD's learning rate by $\theta^2$ (the multiplier acts on the gradient *and* on the update); Adam's by
# $\theta$ (it does not see the gradient's size).

# %%
# EXERCISE 2h: the exponents of the readout's init std and learning rates, when its multiplier is 1/n.
# STUDENT: table8 = {"init_std": ..., "sgd lr": ..., "adam lr": ...}
theta = -1  # the exponent of the multiplier
table8 = {"init_std": -1 - theta, "sgd lr": -1 - 2 * theta, "adam lr": -1 - theta}

# %%
check.ex2h(table8)

# %%
print(MUP.shifted(output=-1, name="Table 8"))

# %% [markdown]
# ## To think about
#
# 1. Everything above looked at the first step. What must hold for the later ones, and what could go wrong?
# 2. With a batch of B examples the gradient is a mean of B outer products. Which of your arguments need care?
# 3. What would the rules be for an optimizer that divides a whole tensor's gradient by its Frobenius norm? (Appendix
#    B.3 names some; the suite refuses them.)
