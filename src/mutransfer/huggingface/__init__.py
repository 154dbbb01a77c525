"""Hugging Face's models in µP: BERT's weights both ways, and what the plan of an unmodified model needs beside it.

Their library, transformers, is optional (``pip install -e '.[hf]'``), and nothing here imports it: a state dict with
the fields of its config is enough.
"""

from mutransfer.huggingface.scales import set_attention_scale
from mutransfer.huggingface.weights import LAYOUTS, config_of, from_huggingface, options_of, to_huggingface

__all__ = ["LAYOUTS", "config_of", "from_huggingface", "options_of", "set_attention_scale", "to_huggingface"]
