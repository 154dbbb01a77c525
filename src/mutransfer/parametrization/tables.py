"""The rules of width scaling as data: tables to hold beside the paper.

A table says, for each optimizer family and each role of a tensor, by which power of fan_in and fan_out four
things change when the width changes: the forward multiplier, the init standard deviation, the learning rate and
Adam's eps. Nothing here is absolute: a table relates one width to another (abc-parametrization, Def. A.2).

The paper prints init *variances*; we store standard deviations, so its 1/fan_in is our ``FAN_IN ** -0.5``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction

from mutransfer.errors import known

Number = int | float | Fraction


class Role(Enum):
    """What a tensor maps between, by which of its dimensions grow with width (Table 3's columns)."""

    INPUT = "input"
    """finite -> infinite: input layers, embeddings, and every bias and norm gain of a growing layer"""
    HIDDEN = "hidden"
    """infinite -> infinite"""
    OUTPUT = "output"
    """infinite -> finite: readouts"""
    SCALAR = "scalar"
    """finite -> finite: nothing grows, so nothing scales (App. B.1, scalar-like parameters)"""


@dataclass(frozen=True)
class Power:
    """fan_in ** fan_in * fan_out ** fan_out, with exact rational exponents. Shown as in the paper: ``1/fan_in``."""

    fan_in: Fraction = Fraction(0)
    fan_out: Fraction = Fraction(0)

    def __mul__(self, other: Power) -> Power:
        return Power(self.fan_in + other.fan_in, self.fan_out + other.fan_out)

    def __truediv__(self, other: Power) -> Power:
        return self * other**-1

    def __pow__(self, k: Number) -> Power:
        return Power(self.fan_in * Fraction(k), self.fan_out * Fraction(k))

    def __call__(self, m_in: float, m_out: float) -> float:
        """The factor at fan_in and fan_out ratios ``m_in`` and ``m_out``: exactly 1.0 where both are 1."""
        return _pow(m_in, self.fan_in) * _pow(m_out, self.fan_out)

    def __str__(self) -> str:
        above = [_term(name, k) for name, k in vars(self).items() if k > 0]
        below = [_term(name, -k) for name, k in vars(self).items() if k < 0]
        return "*".join(above or ["1"]) + "".join(f"/{t}" for t in below)


def _pow(m: float, k: Fraction) -> float:
    # integer powers stay exact, as 1/m in the reference; ** of a float is only correctly rounded for those
    return float(m ** int(k)) if k.denominator == 1 else float(m ** float(k))


def _term(name: str, k: Fraction) -> str:
    return {Fraction(1): name, Fraction(1, 2): f"sqrt({name})"}.get(k, f"{name}^{k}")


ONE = Power()
FAN_IN = Power(fan_in=Fraction(1))
FAN_OUT = Power(fan_out=Fraction(1))


@dataclass(frozen=True)
class Rule:
    """One cell of a table: how one kind of tensor scales. Every field is a `Power`."""

    multiplier: Power = ONE
    init_std: Power = ONE
    lr: Power = ONE
    eps: Power = ONE
    """Adam's eps, outside the square root (App. B.3): the size of the tensor's gradient"""

    def shifted(self, theta: Power, family: str) -> Rule:
        """The same function at every step, written with ``theta`` more multiplier (Lemma J.1).

        SGD: (A, B, C) -> (A theta, B / theta, C / theta^2); Adam: (A theta, B / theta, C / theta), and since the
        gradient grows by theta, so does eps (App. B.3).
        """
        return Rule(
            multiplier=self.multiplier * theta,
            init_std=self.init_std / theta,
            lr=self.lr / theta ** (2 if family == "sgd" else 1),
            eps=self.eps * theta,
        )


FIELDS = ("multiplier", "init_std", "lr", "eps")
FAMILIES = {
    **dict.fromkeys(("sgd", "asgd", "momentum", "nesterov"), "sgd"),
    **dict.fromkeys(("adam", "adamw", "adamax", "nadam", "adagrad", "rmsprop", "lion"), "adam"),
}


def family_of(optimizer: str) -> str:
    """``"sgd"`` or ``"adam"``: which rows of a table an optimizer follows (App. B.3).

    RAdam (its two stages scale apart) and the Frobenius-normalised optimizers (LARS, LAMB, Adafactor) have other
    rules and are refused with a `UserError`.
    """
    return FAMILIES[known("optimizer", optimizer.lower(), FAMILIES)]


@dataclass(frozen=True)
class Parametrization:
    """A named table: ``rules[family][role] -> Rule`` for the families ``"sgd"`` and ``"adam"``."""

    name: str
    rules: Mapping[str, Mapping[Role, Rule]] = field(repr=False)
    attention: Power = ONE
    """what d_head divides attention logits by (``fan_in`` stands for d_head): 1/d in µP (Def. 4.1), else 1/sqrt(d)"""

    def rule(self, optimizer: str, role: Role) -> Rule:
        """The `Rule` of ``role`` under ``optimizer``. SCALAR tensors never scale."""
        return Rule() if role is Role.SCALAR else self.rules[family_of(optimizer)][role]

    def shifted(
        self, *, input: Number = 0, hidden: Number = 0, output: Number = 0, name: str | None = None
    ) -> Parametrization:
        """The equivalent table of Lemma J.1 with theta = fan ** exponent for each role.

        The fan is the one that grows: fan_out for ``input``, fan_in for ``hidden`` and ``output``. So Table 8 is
        ``MUP.shifted(output=-1)`` and Table 9 is ``MUP.shifted(input=1/2, output=-1/2)``.
        """
        theta = {Role.INPUT: FAN_OUT**input, Role.HIDDEN: FAN_IN**hidden, Role.OUTPUT: FAN_IN**output}
        name = name or f"{self.name}.shifted(input={input}, hidden={hidden}, output={output})"
        rules = {f: {r: rule.shifted(theta[r], f) for r, rule in table.items()} for f, table in self.rules.items()}
        return replace(self, name=name, rules=rules)

    def with_entry(self, family: str, role: Role, **entry: Power) -> Parametrization:
        """A copy with some entries of one `Rule` changed: for ablations ("what if this entry were SP's?")."""
        rules = {**self.rules, family: {**self.rules[family], role: replace(self.rules[family][role], **entry)}}
        label = f"{self.name} with {family} {role.value} " + ", ".join(f"{k}={v}" for k, v in entry.items())
        return replace(self, name=label, rules=rules)

    def __str__(self) -> str:
        roles = (Role.INPUT, Role.OUTPUT, Role.HIDDEN)
        cells = [[self.name, *(role.value for role in roles)]]
        for family, table in self.rules.items():
            for name in FIELDS if family == "adam" else FIELDS[:-1]:
                cells.append([f"{family} {name}", *(str(getattr(table[role], name)) for role in roles)])
        return aligned(cells)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


_LECUN = FAN_IN**-0.5  # variance 1/fan_in

# Table 3, SP in brackets. A bias has fan_in 1; an input layer's fan_in does not grow.
SP = Parametrization(
    "sp",
    dict.fromkeys(("sgd", "adam"), dict.fromkeys((Role.INPUT, Role.HIDDEN, Role.OUTPUT), Rule(init_std=_LECUN))),
    attention=FAN_IN**-0.5,
)

# Table 3. Where the paper prints 1 for SGD's hidden LR both fans grow alike; fan_out/fan_in is the rule when they do
# not (d_ffn growing faster than d_model, say). eps: gradients are of size 1/fan_out; the readout's fan_out is fixed.
MUP = Parametrization(
    "mup",
    {
        "sgd": {
            Role.INPUT: Rule(init_std=_LECUN, lr=FAN_OUT, eps=FAN_OUT**-1),
            Role.HIDDEN: Rule(init_std=_LECUN, lr=FAN_OUT / FAN_IN, eps=FAN_OUT**-1),
            Role.OUTPUT: Rule(init_std=FAN_IN**-1, lr=FAN_IN**-1),
        },
        "adam": {
            Role.INPUT: Rule(init_std=_LECUN, eps=FAN_OUT**-1),
            Role.HIDDEN: Rule(init_std=_LECUN, lr=FAN_IN**-1, eps=FAN_OUT**-1),
            Role.OUTPUT: Rule(init_std=FAN_IN**-1, lr=FAN_IN**-1),
        },
    },
    attention=FAN_IN**-1,
)
MUP_TABLE8 = MUP.shifted(output=-1, name="mup_table8")
MUP_TABLE9 = MUP.shifted(input=0.5, output=-0.5, name="mup_table9")

# The kernel limit (Jacot et al. 2018). SGD as in Tensor Programs IV; Adam's LRs are the largest that keep the change of
# the features at 1/sqrt(width), as in Tensor Programs IVb.
NTK = Parametrization(
    "ntk",
    {
        "sgd": {
            Role.INPUT: Rule(init_std=_LECUN, eps=FAN_OUT**-0.5),
            Role.HIDDEN: Rule(multiplier=FAN_IN**-0.5, eps=(FAN_IN * FAN_OUT) ** -0.5),
            Role.OUTPUT: Rule(multiplier=FAN_IN**-0.5, eps=FAN_IN**-0.5),
        },
        "adam": {
            Role.INPUT: Rule(init_std=_LECUN, lr=FAN_OUT**-0.5, eps=FAN_OUT**-0.5),
            Role.HIDDEN: Rule(multiplier=FAN_IN**-0.5, lr=FAN_IN**-1, eps=(FAN_IN * FAN_OUT) ** -0.5),
            Role.OUTPUT: Rule(multiplier=FAN_IN**-0.5, lr=FAN_IN**-0.5, eps=FAN_IN**-0.5),
        },
    },
    attention=FAN_IN**-0.5,
)
# Mean-field networks of one hidden layer are µP (Tensor Programs IV); with the hidden multiplier 1/sqrt(width) of
# Bordelon and Pehlevan (2022) so are deeper ones: unit init variance everywhere, output multiplier 1/width.
MEAN_FIELD = MUP.shifted(hidden=-0.5, output=-1, name="mean_field")

PARAMETRIZATIONS = {p.name: p for p in (SP, MUP, NTK, MEAN_FIELD, MUP_TABLE8, MUP_TABLE9)}


def parametrization_of(spec: str | Parametrization) -> Parametrization:
    """A table by its name (``"sp"``, ``"mup"``, ...), or the table itself. Raises `UserError` for an unknown name."""
    if isinstance(spec, Parametrization):
        return spec
    return PARAMETRIZATIONS[known("parametrization", str(spec).lower(), PARAMETRIZATIONS)]


def attention_scale(
    d_head: int, base_d_head: int, *, parametrization: str | Parametrization = "mup", alpha_attn: float = 1.0
) -> float:
    """What attention logits q.k are multiplied by: ``alpha_attn * sqrt(base_d_head) / d_head`` in µP (App. B.1).

    In every parametrization it equals SP's ``alpha_attn / sqrt(d_head)`` at ``d_head == base_d_head``; it is a scale
    (derived from width) times a mult (``alpha_attn``, tuned).
    """
    if d_head < 1 or base_d_head < 1:
        raise ValueError(f"d_head and base_d_head must be positive, got {d_head} and {base_d_head}")
    rule = parametrization_of(parametrization).attention
    return alpha_attn * base_d_head**-0.5 * rule(d_head / base_d_head, 1.0)
