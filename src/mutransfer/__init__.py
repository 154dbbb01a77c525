"""mutransfer: does the best learning rate move with width? Standard parametrization and µP, side by side."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutransfer.coordinate_check import coord_check as coord_check
    from mutransfer.parametrization import MEAN_FIELD as MEAN_FIELD
    from mutransfer.parametrization import MUP as MUP
    from mutransfer.parametrization import NTK as NTK
    from mutransfer.parametrization import SP as SP
    from mutransfer.parametrization import Plan as Plan
    from mutransfer.parametrization import Role as Role
    from mutransfer.parametrization import Scale as Scale
    from mutransfer.parametrization import attention_scale as attention_scale
    from mutransfer.parametrization import scaling_plan as scaling_plan
    from mutransfer.results import transfer_report as transfer_report
    from mutransfer.results.coordinates import coordinate_figure as coordinate_figure

_PARAMETRIZATION = ("MEAN_FIELD", "MUP", "NTK", "SP", "Plan", "Role", "Scale", "attention_scale", "scaling_plan")
_WHERE = {
    "coord_check": "mutransfer.coordinate_check",
    "coordinate_figure": "mutransfer.results.coordinates",
    "transfer_report": "mutransfer.results",
    **dict.fromkeys(_PARAMETRIZATION, "mutransfer.parametrization"),
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    # on first use, so that redrawing a figure does not wait for torch
    if name not in _WHERE:
        raise AttributeError(f"module 'mutransfer' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
