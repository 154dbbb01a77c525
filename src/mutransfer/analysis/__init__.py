"""Records to claims: the optimum of every width, its drift, regret, and the verdict. Needs no torch."""

from mutransfer.analysis.drift import DriftResult
from mutransfer.analysis.estimate import Estimate
from mutransfer.analysis.optimum import needs_extension, untested_transfers
from mutransfer.analysis.transfer import TransferReport, transfer_report

__all__ = [
    "DriftResult",
    "Estimate",
    "TransferReport",
    "needs_extension",
    "transfer_report",
    "untested_transfers",
]
