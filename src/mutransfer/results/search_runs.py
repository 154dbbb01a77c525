"""The runs of repeated searches, checked: two pools of samples, and the target trained with the selected ones.

Roles: ``proxy`` and ``direct_pool`` are the pools (one run a sample); ``mutransfer``, ``naive``, ``direct`` and
``default`` are the target, several initialisations (inits, seeds 0, 1, ...) a sample, the default's being sample -1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.estimate import Array
from mutransfer.results.selection import DEFAULT

Metric = Literal["bleu_valid", "bleu_test"]
METRICS: dict[Metric, str] = {"bleu_valid": "validation BLEU", "bleu_test": "test BLEU"}
_RUN = ("role", "sample", "seed", "parametrization", "width", "log2_lr", "steps", "steps_done", "status", "test_loss")
COLUMNS = (*_RUN, "flops", *METRICS)
POOLS = {"proxy": "samples", "direct_pool": "direct_samples"}
"""Role -> the fact that says how many samples it has."""
COPIES = {"mutransfer": "proxy", "naive": "proxy", "direct": "direct_pool"}
"""Role -> the pool whose samples it copies."""
TARGETS = (*COPIES, "default")
PARAMETRIZATIONS = {"proxy": "mup", "mutransfer": "mup", "naive": "sp", "direct_pool": "sp", "direct": "sp"}
PARAMETRIZATIONS |= {"default": "sp"}
FACTS = ("samples", "search", "searches", "direct_samples", "direct", "inits", "seed", "proxy_width", "target_width")
AGAIN = "run the experiment again."


@dataclass(frozen=True)
class SearchRuns:
    """The runs table; ``facts``: the whole numbers `FACTS` and ``space``, whose keys are the hyperparameters.

    Raises `UserError`, which names the first, for missing columns, facts, roles, samples or inits; for what stands
    twice or beyond the facts; for failed and undecoded runs; and where runs differ that must not: in parametrization,
    width, length, cost, data or the hyperparameters of what is one sample.
    """

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        if missing := [name for name in FACTS if type(self.facts.get(name)) is not int]:
            raise UserError(f"the provenance of the searches lacks the whole numbers {', '.join(missing)}; {AGAIN}")
        if not isinstance(self.facts.get("space"), Mapping):
            raise UserError(f"the provenance of the searches lacks the space of hyperparameters; {AGAIN}")
        if small := [name for name in FACTS if name != "seed" and self.facts[name] < 1]:
            raise UserError(
                f"the provenance of the searches has {small[0]} {self.facts[small[0]]}, expected 1 or more."
            )
        if missing := [name for name in (*COLUMNS, *self.hps) if name not in self.runs.columns]:
            raise UserError(f"the table of the searches lacks {', '.join(missing)}; {AGAIN}")
        for name, known in (("role", (*POOLS, *TARGETS)), ("status", ("finished", "diverged", "failed"))):
            for found in self.runs[name].unique():
                if found not in known:
                    raise unknown(f"{name} in the table of the searches", str(found), known)
        self._check_results()
        for role in (*POOLS, *TARGETS):
            self._check_role(role)
        self._check_alike()
        for role, pool in COPIES.items():
            self._check_copies(role, pool)

    @property
    def hps(self) -> list[str]:
        """Columns of the searched hyperparameters; ``lr`` of the space is ``log2_lr``."""
        return ["log2_lr" if name == "lr" else name for name in self.facts["space"]]

    def part(self, role: str) -> pd.DataFrame:
        """The runs of one role by sample and seed, diverged ones with validation loss +inf and BLEU -inf.

        ``spent``: FLOPs, of a diverged run those of the steps that it lived.
        """
        part = self.runs[self.runs["role"] == role].sort_values(["sample", "seed"]).set_index("sample")
        lost = part["status"] == "diverged"
        bleu = part[list(METRICS)].astype(float).mask(lost, -math.inf)
        loss = part["test_loss"].astype(float).mask(lost, math.inf)
        return part.assign(test_loss=loss, **bleu, spent=part["flops"] * part["steps_done"] / part["steps"])

    def inits(self, role: str, metric: Metric) -> dict[int, Array]:
        """Sample -> [inits] BLEU of the target, -inf where it diverged."""
        return {int(str(i)): np.asarray(one, float) for i, one in self.part(role)[metric].groupby(level=0)}

    def _check_results(self) -> None:
        status, decoded = self.runs["status"], self.runs["role"].isin(TARGETS)
        finished = status == "finished"
        known = np.isfinite(self.runs["test_loss"].astype(float))
        scored = np.isfinite(self.runs[list(METRICS)].astype(float)).all(axis=1)
        for bad, what, help in (
            (status == "failed", "failed", "the same command tries them again."),
            (finished & ~known, "finished without a validation loss", AGAIN),
            (finished & decoded & ~scored, "of the target lack a BLEU", "the same command decodes them."),
        ):
            if bad.any():
                raise UserError(
                    f"{bad.sum()} runs of the searches {what}, first {_name(self.runs[bad].iloc[0])}; {help}"
                )

    def _check_role(self, role: str) -> None:
        part = self.runs[self.runs["role"] == role]
        if part.empty:
            pool = self.runs[self.runs["role"] == COPIES.get(role)]
            if len(pool) and (pool["status"] == "diverged").all():
                return  # there was nothing to copy
            raise UserError(f"the table of the searches has no run with role '{role}'; {AGAIN}")
        double = part.duplicated(["sample"] if role in POOLS else ["sample", "seed"])
        if double.any():
            raise UserError(f"the table of the searches has {_name(part[double].iloc[0])} twice; keep one.")
        if role in POOLS:
            size, found = self.facts[POOLS[role]], set(part["sample"])
            if absent := sorted(set(range(size)) - found):
                lacks = f"lacks {len(absent)} of {size} samples of role '{role}', first {absent[0]}"
                raise UserError(f"the table of the searches {lacks}; {AGAIN}")
            if beyond := sorted(found - set(range(size))):
                raise UserError(
                    f"the table of the searches has sample {beyond[0]} of role '{role}', beyond its {size}."
                )
        elif role == "default" and set(part["sample"]) != {DEFAULT}:
            raise UserError(
                f"the default is sample {DEFAULT}, here also {_name(part[part['sample'] != DEFAULT].iloc[0])}."
            )
        else:
            wanted = set(range(self.facts["inits"]))
            for sample, seeds in part.groupby("sample")["seed"]:
                if set(seeds) != wanted:
                    has = ", ".join(map(str, sorted(seeds)))
                    raise UserError(
                        f"sample {sample} of role '{role}' has the inits {has}, not 0 to {len(wanted) - 1}; {AGAIN}"
                    )

    def _check_alike(self) -> None:
        """What must be the same in all runs, in all of the proxy, in all of the target."""
        role, facts = self.runs["role"], self.facts
        for name, wanted in PARAMETRIZATIONS.items():
            wrong = self.runs[(role == name) & (self.runs["parametrization"] != wanted)]
            if len(wrong):
                raise UserError(
                    f"{_name(wrong.iloc[0])} is in '{wrong['parametrization'].iloc[0]}', expected '{wanted}'."
                )
        groups = {"the searches": self.runs, "the proxy": self.runs[role == "proxy"]}
        groups["the target"] = self.runs[role != "proxy"]
        for what, part in groups.items():
            for column in ("data_fingerprint",) if what == "the searches" else ("width", "steps", "flops"):
                if column in part.columns and part[column].nunique(dropna=False) > 1:
                    values = ", ".join(map(str, sorted(part[column].unique(), key=str)[:4]))
                    raise UserError(f"the runs of {what} differ in {column} ({values}); {AGAIN}")
        for what, fact in (("the proxy", "proxy_width"), ("the target", "target_width")):
            if (width := groups[what]["width"].iloc[0]) != facts[fact]:
                raise UserError(f"{what} has width {width} in the table and {facts[fact]} in the provenance; {AGAIN}")

    def _check_copies(self, role: str, pool: str) -> None:
        """A copy has its sample's values; direct tuning's seed 0 is the pool's own run."""
        origin, copies = self.part(pool), self.part(role)
        for sample, one in copies.iterrows():
            if sample not in origin.index:
                raise UserError(f"{_name(one)} copies a sample that role '{pool}' does not have; {AGAIN}")
            if other := [name for name in self.hps if one[name] != origin.at[sample, name]]:
                raise UserError(f"{_name(one)} differs in {other[0]} from its sample of role '{pool}'; {AGAIN}")
            is_same_run = role == "direct" and one["seed"] == origin.at[sample, "seed"]
            if is_same_run and one["test_loss"] != origin.at[sample, "test_loss"]:
                raise UserError(f"{_name(one)} is the pool's own run but has another validation loss; {AGAIN}")


def _name(run: pd.Series) -> str:
    sample = run["sample"] if "sample" in run.index else run.name
    return f"sample {sample} of role '{run['role']}' with seed {run['seed']}"
