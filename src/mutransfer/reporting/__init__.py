"""Claims to figures and tables. Reads committed numbers, trains nothing, needs no torch."""

from mutransfer.reporting.coordinates import coordinate_figure
from mutransfer.reporting.lr_figure import lr_figure
from mutransfer.reporting.render import render
from mutransfer.reporting.table import write_table

__all__ = ["coordinate_figure", "lr_figure", "render", "write_table"]
