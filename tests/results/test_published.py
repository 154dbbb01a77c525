"""The paper's numbers, found by table or figure."""

from __future__ import annotations

import pytest

from mutransfer.errors import UserError
from mutransfer.results import published


def test_figure_3_is_the_mlp():
    """These rows stand beside ours in the first table that a newcomer sees."""
    found = {row.metric: row.value for row in published.rows(table_or_figure="Figure 3")}
    assert found["widths"] == "256,512,1024,2048,4096,8192" and found["base_width"] == "128"


def test_one_experiment_of_a_table():
    """A figure may hold several experiments; asking for one must not return the others."""
    rows = published.rows(table_or_figure="Figure 6", experiment="IWSLT14 De-En")
    assert rows and {row.experiment for row in rows} == {"IWSLT14 De-En"}
    with pytest.raises(UserError, match="Did you mean 'IWSLT14 De-En'"):
        published.rows(table_or_figure="Figure 6", experiment="IWSLT De-En")


def test_an_unknown_figure_names_the_nearest():
    """A typo must not put an empty column beside our numbers."""
    with pytest.raises(UserError, match=r"'Figur 3'.*Did you mean 'Figure 3'"):
        published.rows(table_or_figure="Figur 3")
