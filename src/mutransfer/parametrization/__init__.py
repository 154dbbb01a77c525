"""The mathematics: roles, rules as tables, Lemma J.1, plans. Knows no data set and no training loop."""

from mutransfer.parametrization.own_init import InitError
from mutransfer.parametrization.plan import Multiplier, Plan, Scale, scaling_plan
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

__all__ = [
    "FAN_IN",
    "FAN_OUT",
    "MEAN_FIELD",
    "MUP",
    "MUP_TABLE8",
    "MUP_TABLE9",
    "NTK",
    "ONE",
    "SP",
    "InitError",
    "Multiplier",
    "Parametrization",
    "Plan",
    "Power",
    "Role",
    "RoleError",
    "Rule",
    "Scale",
    "attention_scale",
    "scaling_plan",
]
