"""Section 6.1's rule of thumb: what the runs reached of it, and what a verdict then says."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from mutransfer.results.rule_of_thumb import conditions, markdown, panel_line

INSIDE = {"width": 256, "depth": 4, "batch": 32, "length": 128, "steps": 5000}


def runs(**changes):
    """Four runs inside of the rule, with changes to columns."""
    return pd.DataFrame({**{name: [value] * 4 for name, value in INSIDE.items()}, **changes})


def test_what_was_reached():
    table = runs(width=[32, 64, 128, 256], depth=2, steps=[5000, 6000, 7000, 8000], batch=[16, 32, 64, 64])
    width, depth, batch, length, steps = conditions(table.drop(columns="length"))
    assert str(width) == "width >= 256: 32..256, only 256 reaches it"
    assert str(depth) == "depth >= 4: out of reach (2)"
    assert str(batch) == "batch >= 32: 16..64, only 32 and 64 reach it"
    assert str(length) == "sequence length >= 128: not recorded"
    assert str(steps) == "steps >= 5000: met by all runs (5000..8000)"
    assert (width.reached, depth.reached, length.values) == ((256.0,), (), ())


@pytest.mark.parametrize(
    ("changes", "verdict", "text"),
    [
        ({}, "transfers", "inside the rule's range: as the rule says"),
        ({}, "does not transfer", "inside the rule's range: not as the rule says"),
        ({}, "undecided", "says nothing about the rule"),
        ({"width": [32, 256, 256, 256]}, "transfers", r"although outside of the rule's range \(width from 32\)"),
        (
            {"width": 32, "steps": 250},
            "does not transfer",
            r"outside of the rule's range \(width from 32 and steps from",
        ),
    ],
)
def test_a_verdict_beside_the_rule(changes, verdict, text):
    """The rule claims something only where every run, so the smallest line too, is in its range."""
    assert re.search(text, panel_line(runs(**changes), verdict, x_name="init std", line_name="width"))


def test_an_unrecorded_column_is_outside():
    """What nobody wrote down cannot be claimed to hold."""
    text = panel_line(runs().drop(columns="steps"), "transfers", x_name="learning rate", line_name="width")
    assert text == "transfers although outside of the rule's range (steps not recorded)"


@pytest.mark.parametrize(
    ("x_name", "line_name", "more", "reason"),
    [
        ("init std", "depth", {}, "init std across depth"),
        ("learning rate", "depth", {"norm": "post"}, "depth in post-LN"),
        ("learning rate", "depth", {"variant": "post_ln"}, "depth in post-LN"),
        ("learning rate", "depth", {"norm": "pre"}, ""),
        ("init std", "width", {"norm": "post"}, ""),
    ],
)
def test_its_own_exceptions(x_name, line_name, more, reason):
    text = panel_line(runs(**more), "does not transfer", x_name=x_name, line_name=line_name)
    assert (f"({reason})" in text) if reason else text.endswith("not as the rule says")


def test_markdown_has_a_line_a_condition_and_a_panel():
    lines = markdown(runs(), [("learning rate across width, µP", "transfers")]).split("\n")
    assert len(lines) == 5 + 1 + 1 and lines[5] == ""
    assert lines[-1] == "- learning rate across width, µP: transfers"
    assert len(markdown(runs()).split("\n")) == 5
