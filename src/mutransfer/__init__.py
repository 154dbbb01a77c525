"""mutransfer: does the best learning rate move with width? Standard parametrization and µP, side by side."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutransfer.coordinate_check import coord_check
    from mutransfer.parametrization import MEAN_FIELD, MUP, NTK, SP, Plan, Role, Scale, attention_scale, scaling_plan
    from mutransfer.results import transfer_report
    from mutransfer.results.coordinates import coordinate_figure

__all__ = ["MEAN_FIELD", "MUP", "NTK", "SP", "Plan", "Role", "Scale", "attention_scale", "coord_check"]
__all__ += ["coordinate_figure", "scaling_plan", "transfer_report"]
_ELSEWHERE = {
    "coord_check": "coordinate_check",
    "coordinate_figure": "results.coordinates",
    "transfer_report": "results",
}


def __getattr__(name: str) -> Any:
    # on first use, so that redrawing a figure does not wait for torch
    if name not in __all__:
        raise AttributeError(f"module 'mutransfer' has no attribute '{name}'")
    return getattr(import_module(f"mutransfer.{_ELSEWHERE.get(name, 'parametrization')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
