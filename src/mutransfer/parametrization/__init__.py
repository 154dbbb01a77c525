"""The mathematics: roles, rules as tables, Lemma J.1, plans. Knows no data set and no training loop.

The tables need no torch; the names of what does are imported with it when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mutransfer.parametrization.tables import (
    FAN_IN,
    FAN_OUT,
    MEAN_FIELD,
    MUP,
    MUP_TABLE8,
    MUP_TABLE9,
    NTK,
    ONE,
    SP,
    Parametrization,
    Power,
    Role,
    Rule,
    attention_scale,
)

if TYPE_CHECKING:
    from mutransfer.parametrization.own_init import InitError
    from mutransfer.parametrization.plan import Plan, Scale, scaling_plan
    from mutransfer.parametrization.roles import RoleError

__all__ = ["FAN_IN", "FAN_OUT", "ONE", "Parametrization", "Power", "Role", "Rule", "attention_scale"]
__all__ += ["MEAN_FIELD", "MUP", "MUP_TABLE8", "MUP_TABLE9", "NTK", "SP"]
__all__ += ["InitError", "Plan", "RoleError", "Scale", "scaling_plan"]
_HOMES = {"InitError": "own_init", "RoleError": "roles", "Plan": "plan", "Scale": "plan", "scaling_plan": "plan"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
