"""Records to claims: the optimum of every width, its drift, regret, and the verdict. Needs no torch."""

from importlib import import_module
from typing import Any

_NAMES = {
    "coordinates": ("coordinate_figure",),
    "estimate": ("Estimate",),
    "frame": ("PanelAxis",),
    "landscape": ("PanelReport", "landscape_report"),
    "learning": ("LearningReport", "learning_figure", "learning_report"),
    "stability": ("StabilityReport", "stability_report"),
    "sweep": ("lr_figure",),
    "transfer": ("DriftResult", "TransferReport", "needs_extension", "transfer_report", "untested_transfers"),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    # on first use, so that an optimum does not wait for what draws it
    if name not in _WHERE:
        raise AttributeError(f"module 'mutransfer.results' has no attribute '{name}'")
    return getattr(import_module(f"mutransfer.results.{_WHERE[name]}"), name)
