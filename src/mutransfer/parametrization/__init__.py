"""The mathematics: roles, rules as tables, Lemma J.1, plans. Knows no data set and no training loop."""

from mutransfer.parametrization.own_init import InitError
from mutransfer.parametrization.plan import Plan, Scale, scaling_plan
from mutransfer.parametrization.roles import RoleError
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

__all__ = ["FAN_IN", "FAN_OUT", "ONE", "Parametrization", "Power", "Role", "Rule", "attention_scale"]
__all__ += ["MEAN_FIELD", "MUP", "MUP_TABLE8", "MUP_TABLE9", "NTK", "SP"]
__all__ += ["InitError", "Plan", "RoleError", "Scale", "scaling_plan"]
