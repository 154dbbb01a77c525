"""Records to claims: the optimum of every width, its drift, regret, and the verdict. Needs no torch."""

from mutransfer.results.drift import DriftResult
from mutransfer.results.estimate import Estimate
from mutransfer.results.landscape import PanelReport, landscape_report
from mutransfer.results.learning import LearningReport, learning_report
from mutransfer.results.optimum import needs_extension, untested_transfers
from mutransfer.results.stability import StabilityReport, stability_report
from mutransfer.results.transfer import TransferReport, transfer_report

__all__ = [
    "DriftResult",
    "Estimate",
    "LearningReport",
    "PanelReport",
    "StabilityReport",
    "TransferReport",
    "landscape_report",
    "learning_report",
    "needs_extension",
    "stability_report",
    "transfer_report",
    "untested_transfers",
]
