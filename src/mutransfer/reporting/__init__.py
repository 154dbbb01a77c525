"""Claims to figures and tables. Reads committed numbers, trains nothing, needs no torch."""

from mutransfer.reporting.coordinates import coordinate_figure, render_coordinates
from mutransfer.reporting.equal_compute import render_study
from mutransfer.reporting.landscape import render_landscape
from mutransfer.reporting.learning import render_learning
from mutransfer.reporting.learning_curves import learning_figure
from mutransfer.reporting.lr_figure import lr_figure
from mutransfer.reporting.render import render
from mutransfer.reporting.stability import render_stability
from mutransfer.reporting.table import write_table

__all__ = [
    "coordinate_figure",
    "learning_figure",
    "lr_figure",
    "render",
    "render_coordinates",
    "render_landscape",
    "render_learning",
    "render_stability",
    "render_study",
    "write_table",
]
