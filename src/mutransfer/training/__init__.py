"""One run: a `RunSpec` in, a `RunRecord` out."""

from mutransfer.training.spec import RunRecord, RunSpec

__all__ = ["RunRecord", "RunSpec"]
