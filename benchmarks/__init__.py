"""Ratios measured side by side in one run: ``./reproduce.sh bench``."""
