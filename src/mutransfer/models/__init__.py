"""Plain torch modules. Every line that µP cares about carries the mark ``# µP``."""

from mutransfer.models.mlp import MLP
from mutransfer.models.transformer import Bert, Classifier, Decoder, EncoderDecoder

__all__ = ["MLP", "Bert", "Classifier", "Decoder", "EncoderDecoder"]
