"""The coordinate check must pass µP, fail SP, and catch every single entry of the µP table that is put back to SP's."""

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch
from nets import MLP, Transformer, grows, tokens, vectors
from torch import nn

from mutransfer import MUP, SP, Role, coord_check
from mutransfer.errors import UserError
from mutransfer.parametrization.tables import FIELDS
from mutransfer.results.coordinates import COLUMNS, CoordFrame

WIDTHS = [64, 128, 256]
LOGITS = [f"blocks.{i}.attn.logits" for i in range(2)]


def check(parametrization, optimizer="adam", build=MLP, batch=None, **options):
    settings = {"lr": {"adam": 1e-2, "sgd": 0.1}[optimizer], "steps": 3, "seeds": 2, "optimizer": optimizer}
    return coord_check(build, WIDTHS, [batch or vectors()], parametrization=parametrization, **settings | options)


def check_transformer(parametrization, optimizer="adam", attention="mup"):
    def build(width):
        return Transformer(width, base_width=WIDTHS[0], parametrization=attention)

    return check(parametrization, optimizer, build, tokens(2, 8), may_shrink_at_init=LOGITS)


def test_mlp_is_seen_to_fail_in_sp():
    """SP with Adam: hidden activations and the output grow after one step, as fast as theory says (exponent 1)."""
    frame = check("sp")
    verdict = frame.verdict()
    assert not verdict.ok
    assert verdict["blocks.0"]["verdict"] == verdict["output"]["verdict"] == "grows"
    assert verdict["embed"]["verdict"] == "ok"  # an input layer under Adam has SP's own rule
    rows = frame.exponents().query("step == 1").set_index("activation")
    assert rows.loc["blocks.0", "exponent"] == pytest.approx(1, abs=0.15)
    assert rows.loc["blocks.0", "low"] < rows.loc["blocks.0", "exponent"] < rows.loc["blocks.0", "high"]


def test_transformer():
    """µP `ok` everywhere, attention logits too; SP grows; and with SP's 1/sqrt(d) attention alone µP is caught."""
    verdict = check_transformer("mup").verdict()
    assert verdict.ok, str(verdict)
    assert {"embed", "ln", "blocks.1.attn.qkv", "blocks.1.attn.logits", "output"} <= set(verdict)
    growing = grows(check_transformer("sp", attention="sp").verdict())
    assert {"blocks.0.attn.qkv", "blocks.0.attn.logits", "blocks.1.mlp.0", "readout", "output"} <= growing
    mutated = check_transformer("mup", attention="sp").verdict()
    assert mutated["blocks.0.attn.logits"]["verdict"] == "grows"


def test_transformer_with_sgd():
    """All but the attention logits stay. Those start uncorrelated and move by 1/sqrt(width) in SGD's first steps."""
    verdict = check_transformer("mup", "sgd").verdict()
    assert {name for name, row in verdict.items() if row["verdict"] != "ok"} == set(LOGITS)


# were the table to lose an entry, its test would go with it
ENTRIES = [
    (family, role, entry)
    for family, table in MUP.rules.items()
    for role, rule in table.items()
    for entry in FIELDS
    if getattr(rule, entry) != getattr(SP.rules[family][role], entry) and not (family == "sgd" and entry == "eps")
]
assert len(ENTRIES) == 4 + 5


class Bottleneck(MLP):
    """Hidden fans that grow differently: width, then width^2 / 64, as SGD's fan_out/fan_in rule needs to be seen."""

    def __init__(self, width):
        super().__init__(width)
        self.blocks[0] = nn.Linear(width, width * width // 64)
        self.readout = nn.Linear(width * width // 64, 10)


@lru_cache
def whole(family, **options):
    """The verdict on the table as it is, which many mutants of it are compared with: every activation and its change
    stay, at every step."""
    verdict = check(MUP, family, **options).verdict()
    assert verdict.ok or options.get("build"), str(verdict)
    assert set(verdict) == {"embed", "blocks.0", "readout", "output"}
    return verdict


@pytest.mark.parametrize(("family", "role", "entry"), ENTRIES)
def test_every_entry_of_the_table_is_needed(family, role, entry):
    """Put one entry back to SP's and the check must say so: a check that passes a wrong table is worth nothing."""
    # eps matters only where it is as large as the gradients
    options = {"eps": 1e-2} if entry == "eps" else {}
    mutant = MUP.with_entry(family, role, **{entry: getattr(SP.rules[family][role], entry)})
    if (family, role) == ("sgd", Role.HIDDEN):
        # fan_out/fan_in is SP's 1 where both fans grow alike, so only a net whose fans grow apart can tell; there the
        # layer itself is the witness (with fan-in init the embedding below it moves by less than 1 at first)
        verdict = check(mutant, family, build=Bottleneck).verdict()["blocks.0"]
        assert (whole(family, build=Bottleneck)["blocks.0"]["verdict"], verdict["verdict"]) == ("ok", "shrinks")
    else:
        assert whole(family, **options).ok
        mutated = check(mutant, family, **options).verdict()
        assert not mutated.ok, str(mutated)


def test_zero_readout_says_nothing_at_the_first_step():
    """Behind a readout of zeros no gradient flows at first: an exact 0 is no evidence of shrinking, later steps are."""
    frame = check("mup", build=lambda w: MLP(w, zero_readout=True))
    assert frame.verdict().ok
    hidden = frame.exponents().query("activation == 'blocks.0' and kind == 'change'")
    assert list(hidden["step"]) == [2, 3]


def test_the_extremes():
    """With lr = 0 nothing learns: shrinking, not a pass. What leaves the floating-point range grows, and is no gap."""
    verdict = check("mup", lr=0.0).verdict()
    assert verdict["blocks.0"]["verdict"] == "shrinks" and not verdict.ok
    frame = check("sp", "sgd", lr=1e6, seeds=1)
    assert not np.isfinite(frame.data["rms"]).all()
    assert frame.verdict()["output"]["verdict"] == "grows"


def test_unmodified_torch_modules_of_any_output():
    """Hooks reach tuples and repeated calls, and are gone afterwards; the caller's random state stays."""

    class Net(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.rnn, self.act, self.out = nn.LSTM(8, w, batch_first=True), nn.ReLU(inplace=True), nn.Linear(w, 3)

        def forward(self, x):
            h, _ = self.rnn(x)
            return self.out(self.act(self.act(h * 2)[:, -1] + 1))

    made, batch = [], (torch.randn(4, 5, 8), torch.randn(4, 3))
    state = torch.random.get_rng_state()
    frame = coord_check(lambda w: made.append(Net(w)) or made[-1], [16, 32], [batch], steps=1, seeds=1)
    assert {"rnn", "rnn[1]", "act", "act#2", "out", "output"} <= set(frame.data["activation"])
    assert all(not m._forward_hooks for net in made for m in net.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_exponents_are_exact_on_planted_growth():
    """rms = width^k gives k, for one seed without an interval, and the verdict thresholds are the declared +-0.25."""
    rows = [
        (w, 0, step, f"x{k}", kind, float(w) ** (k if step else 0))
        for w in WIDTHS
        for k in (-0.3, -0.2, 0.2, 0.3)
        for step, kind in ((0, "value"), (1, "value"), (1, "change"))
    ]
    verdict = CoordFrame(pd.DataFrame(rows, columns=COLUMNS), "mup", "adam").verdict()
    assert verdict["x0.3"]["exponent"] == pytest.approx(0.3)
    assert pd.isna(verdict["x0.3"]["low"])
    assert [verdict[f"x{k}"]["verdict"] for k in (-0.3, -0.2, 0.2, 0.3)] == ["shrinks", "ok", "ok", "grows"]


def test_bad_input_is_refused():
    """One width shows no growth; the error says what is needed."""
    for says, widths, batches in (("two positive widths", [64, 64], [vectors()]), ("0 batches", WIDTHS, [])):
        with pytest.raises(ValueError, match=says):
            coord_check(MLP, widths, batches)
    with pytest.raises(UserError, match="'adam'"):
        coord_check(MLP, WIDTHS, [vectors()], optimizer="adm")
    with pytest.raises(KeyError, match="'readout'"):
        check("mup", steps=1, seeds=1).verdict()["readuot"]
