"""The runs of one search and of the targets that got its winner (Table 6), checked.

Roles: ``proxy`` is the search (one run a sample, target ``proxy``); ``mutransfer``, ``naive``, ``default`` and
``default_long`` are a target's trainings, each from several initialisations (inits, seeds 0, 1, ...); the default's
sample is -1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.selection import COPIES, DEFAULT, JUDGED, PROXY, SCRATCH, ranking

PARAMETRIZATIONS = {"proxy": "mup", "default": "sp", "default_long": "sp", "naive": "sp", "mutransfer": "mup"}
CHANGES = ("width", "depth", "both")
COLUMNS = (
    "role", "target", "sample", "seed", "parametrization", "width", "base_width", "log2_lr", "steps", "steps_done",
    "status", "test_loss", "flops", "depth",
)  # fmt: skip
TARGET_FACTS = ("width", "depth", "changes", "roles", "published")
AGAIN = "run the experiment again."


@dataclass(frozen=True)
class TransferRuns:
    """The runs table; ``facts``: ``samples``, ``inits`` and ``seed`` (whole numbers), ``space`` (whose keys are the
    hyperparameters), ``proxy`` (width and depth), ``targets`` (label -> `TARGET_FACTS`) and ``scores`` (by column).

    Raises `UserError`, which names the first, for missing columns, facts, roles, samples, inits or scores; for what
    stands twice or is unknown; for failed runs; where runs differ that must not: in parametrization, width, depth,
    length, cost, data; if the proxy is not at the base width, where SP and µP are one; and if what was copied is not
    the sample with the least validation loss.
    """

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._check_facts()
        if missing := [name for name in (*COLUMNS, *self.hps, *self.scores) if name not in self.runs.columns]:
            raise UserError(f"the table of the transfer lacks {', '.join(missing)}; {AGAIN}")
        for name, known in (
            ("role", PARAMETRIZATIONS),
            ("target", (PROXY, *self.facts["targets"])),
            ("status", ("finished", "diverged", "failed")),
        ):
            for found in self.runs[name].astype(str).unique():
                if found not in known:
                    raise unknown(f"{name} in the table of the transfer", found, known)
        self._check_results()
        self._check_search()
        for label, target in self.facts["targets"].items():
            for role in target["roles"]:
                self._check_inits(label, role)
        self._check_alike()
        self._check_copies()

    @property
    def hps(self) -> list[str]:
        """Columns of the searched hyperparameters; ``lr`` of the space is ``log2_lr``."""
        return ["log2_lr" if name == "lr" else name for name in self.facts["space"]]

    @property
    def scores(self) -> list[str]:
        """Columns of the scores: the tasks, and those that have one without pretraining."""
        tasks = self.facts["scores"]
        return [*tasks, *(name + SCRATCH for name in tasks if name + SCRATCH in self.runs.columns)]

    def part(self, target: str, role: str) -> pd.DataFrame:
        """Runs in the order of samples and seeds; diverged ones with validation loss +inf and without scores.

        ``spent``: FLOPs, of a diverged run those of the steps that it lived.
        """
        chosen = (self.runs["role"] == role) & (self.runs["target"].astype(str) == target)
        part = self.runs[chosen].sort_values(["sample", "seed"])
        lost = part["status"] == "diverged"
        loss = part["test_loss"].astype(float).mask(lost, math.inf)
        scores = part[self.scores].astype(float).mask(lost, math.nan)
        return part.assign(test_loss=loss, **scores, spent=part["flops"] * part["steps_done"] / part["steps"])

    @cached_property
    def proxy(self) -> pd.DataFrame:
        """The search, by sample."""
        return self.part(PROXY, PROXY).set_index("sample")

    @cached_property
    def ranked(self) -> list[int]:
        """The samples that trained to the end, the least validation loss first, of a tie the lower number."""
        return ranking({int(str(i)): loss for i, loss in self.proxy["test_loss"].items()})

    def _check_facts(self) -> None:
        facts = self.facts
        numbers, objects = ("samples", "inits", "seed"), ("space", "proxy", "targets", "scores")
        missing = [name for name in numbers if type(facts.get(name)) is not int]
        missing += [name for name in objects if not isinstance(facts.get(name), Mapping)]
        if not missing:
            missing = [f"proxy.{name}" for name in ("width", "depth") if name not in facts["proxy"]]
            for label, target in facts["targets"].items():
                missing += [f"targets.{label}.{name}" for name in TARGET_FACTS if name not in target]
            keys = ("label", "metric", "unit", "published")
            missing += [f"scores.{n}.{key}" for n, score in facts["scores"].items() for key in keys if key not in score]
        if missing:
            raise UserError(f"the provenance of the transfer lacks {', '.join(missing)}; {AGAIN}")
        for label, target in facts["targets"].items():
            if target["changes"] not in CHANGES:
                raise unknown(f"change of target '{label}'", str(target["changes"]), CHANGES)
            if not {"default", "mutransfer"} <= set(target["roles"]) <= set(PARAMETRIZATIONS) - {PROXY}:
                raise UserError(f"target '{label}' has the roles {', '.join(target['roles'])}; {AGAIN}")

    def _check_results(self) -> None:
        runs = self.runs
        finished = runs["status"] == "finished"
        known = np.isfinite(runs["test_loss"].astype(float))
        main = [label for label, target in self.facts["targets"].items() if target["changes"] == "both"]
        tasks, has_task = list(self.facts["scores"]), runs["target"].isin(main)
        lacks = pd.Series(False, runs.index)
        for name in self.scores:
            needs = has_task if name in tasks else has_task & runs["role"].isin(JUDGED)
            lacks |= needs & ~np.isfinite(runs[name].astype(float))
        for bad, what, help in (
            (runs["status"] == "failed", "failed", "the same command tries them again."),
            (finished & ~known, "finished without a validation loss", AGAIN),
            (finished & lacks, f"lack one of the scores {', '.join(self.scores)}", AGAIN),
        ):
            if bad.any():
                raise UserError(f"{bad.sum()} runs of the transfer {what}, first {_name(runs[bad].iloc[0])}; {help}")

    def _check_search(self) -> None:
        found, size = [int(i) for i in self.part(PROXY, PROXY)["sample"]], self.facts["samples"]
        if absent := sorted(set(range(size)) - set(found)):
            lacks = f"lacks {len(absent)} of {size} samples of the search, first {absent[0]}"
            raise UserError(f"the table of the transfer {lacks}; {AGAIN}")
        if len(found) > size:
            raise UserError(f"the table of the transfer has {len(found)} runs of {size} samples; keep one of each.")
        if not self.ranked:
            raise UserError(f"none of the {size} samples has trained to the end: there was nothing to copy.")

    def _check_inits(self, target: str, role: str) -> None:
        wanted, seeds = range(self.facts["inits"]), sorted(int(i) for i in self.part(target, role)["seed"])
        if seeds != [*wanted]:
            has = ", ".join(map(str, seeds)) or "none"
            raise UserError(f"'{role}' of target '{target}' has the inits {has}, not 0 to {len(wanted) - 1}; {AGAIN}")

    def _check_alike(self) -> None:
        """What must be the same in all runs, in all of the proxy, in all of a target."""
        groups: dict[str, tuple[pd.DataFrame, tuple[str, ...]]] = {"the transfer": (self.runs, ("data_fingerprint",))}
        models = {"the proxy": self.facts["proxy"]}
        groups["the proxy"] = self.runs[self.runs["role"] == PROXY], ("width", "depth", "steps", "flops")
        for label, target in self.facts["targets"].items():
            own = self.runs[self.runs["target"].astype(str) == label]
            if extra := sorted(set(own["role"]) - set(target["roles"])):
                raise UserError(f"target '{label}' has runs of role '{extra[0]}', which was not planned; {AGAIN}")
            models[f"target '{label}'"] = target
            groups[f"target '{label}'"] = own, ("width", "depth")
            length = own[own["role"] != "default_long"]
            groups[f"target '{label}' (as long as the others)"] = length, ("steps", "flops")
        for what, (part, columns) in groups.items():
            for column in columns:
                if column in part.columns and part[column].nunique(dropna=False) > 1:
                    values = ", ".join(map(str, sorted(part[column].unique(), key=str)[:4]))
                    raise UserError(f"the runs of {what} differ in {column} ({values}); {AGAIN}")
        for what, model in models.items():
            for fact in ("width", "depth"):
                if (value := groups[what][0][fact].iloc[0]) != model[fact]:
                    raise UserError(f"{what} has {fact} {value} in the table, {model[fact]} in the provenance; {AGAIN}")
        if (self.runs["base_width"] != self.facts["proxy"]["width"]).any():
            raise UserError("the proxy is not at the base width of all runs, where SP and µP are one; " + AGAIN)
        wrong = self.runs[self.runs["parametrization"] != self.runs["role"].map(PARAMETRIZATIONS)]
        if len(wrong):
            one = wrong.iloc[0]
            wanted = PARAMETRIZATIONS[one["role"]]
            raise UserError(f"{_name(one)} is in '{one['parametrization']}', expected '{wanted}'.")

    def _check_copies(self) -> None:
        """What was copied is the winner, with its values; the default's sample is `DEFAULT`."""
        winner = self.ranked[0]
        for _, one in self.runs[self.runs["role"] != PROXY].iterrows():
            wanted = winner if one["role"] in COPIES else DEFAULT
            if one["sample"] != wanted:
                raise UserError(f"{_name(one)} has another sample than {wanted}, by the losses in the table; {AGAIN}")
            if wanted == winner and (other := [n for n in self.hps if one[n] != self.proxy.at[winner, n]]):
                raise UserError(f"{_name(one)} differs in {other[0]} from its sample on the proxy; {AGAIN}")


def _name(run: pd.Series) -> str:
    return f"sample {run['sample']} of '{run['role']}' of target '{run['target']}' with seed {run['seed']}"
