"""Plain torch modules. Every line that µP cares about carries the mark ``# µP``."""

from mutransfer.models.mlp import MLP

__all__ = ["MLP"]
