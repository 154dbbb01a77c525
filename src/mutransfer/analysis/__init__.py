"""Records to claims: the optimum of every width, its drift, regret, and the verdict. Needs no torch."""

from mutransfer.analysis.drift import DriftResult
from mutransfer.analysis.equal_compute import EqualCompute
from mutransfer.analysis.estimate import Estimate
from mutransfer.analysis.landscape import PanelReport, landscape_report
from mutransfer.analysis.learning import LearningReport, learning_report
from mutransfer.analysis.optimum import needs_extension, untested_transfers
from mutransfer.analysis.stability import StabilityReport, stability_report
from mutransfer.analysis.transfer import TransferReport, transfer_report

__all__ = [
    "DriftResult",
    "EqualCompute",
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
