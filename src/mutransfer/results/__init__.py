"""Records to claims: the optimum of every width, its drift, regret, and the verdict. Needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutransfer.results.coordinates import coordinate_figure as coordinate_figure
    from mutransfer.results.drift import DriftResult as DriftResult
    from mutransfer.results.estimate import Estimate as Estimate
    from mutransfer.results.frame import Axis as Axis
    from mutransfer.results.landscape import PanelReport as PanelReport
    from mutransfer.results.landscape import landscape_report as landscape_report
    from mutransfer.results.learning import LearningReport as LearningReport
    from mutransfer.results.learning import learning_figure as learning_figure
    from mutransfer.results.learning import learning_report as learning_report
    from mutransfer.results.optimum import needs_extension as needs_extension
    from mutransfer.results.optimum import untested_transfers as untested_transfers
    from mutransfer.results.stability import StabilityReport as StabilityReport
    from mutransfer.results.stability import stability_report as stability_report
    from mutransfer.results.sweep import TransferReport as TransferReport
    from mutransfer.results.sweep import lr_figure as lr_figure
    from mutransfer.results.sweep import transfer_report as transfer_report

_WHERE = {
    "coordinates": ("coordinate_figure",),
    "drift": ("DriftResult",),
    "estimate": ("Estimate",),
    "frame": ("Axis",),
    "landscape": ("PanelReport", "landscape_report"),
    "learning": ("LearningReport", "learning_figure", "learning_report"),
    "optimum": ("needs_extension", "untested_transfers"),
    "stability": ("StabilityReport", "stability_report"),
    "sweep": ("TransferReport", "lr_figure", "transfer_report"),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    # on first use, so that an optimum does not wait for what draws it
    if name not in _MODULES:
        raise AttributeError(f"module 'mutransfer.results' has no attribute '{name}'")
    return getattr(import_module(f"mutransfer.results.{_MODULES[name]}"), name)
