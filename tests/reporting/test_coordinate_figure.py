"""The coordinate check as a picture."""

import pandas as pd
import pytest

from mutransfer import coordinate_figure
from mutransfer.analysis.coordinates import COLUMNS, CoordFrame
from mutransfer.errors import UserError


def frame(parametrization, exponent):
    """Planted growth of three activations over three widths, two seeds and two steps; nothing moves at step 1."""
    rows = [
        (w, seed, step, name, "change", (1 + 0.1 * seed) * w**exponent * (step - 1))
        for w in (64, 128, 256)
        for seed in (0, 1)
        for step in (1, 2)
        for name in ("embed", "hidden", "output")
    ]
    return CoordFrame(pd.DataFrame(rows, columns=COLUMNS), parametrization, "adam")


def test_a_row_a_frame_a_column_an_activation(tmp_path):
    """SP above µP with the verdict in words and its exponent in every panel; the same frames give the same bytes."""
    frames = [frame("sp", 0.5), frame("mup", 0.0)]
    paths = coordinate_figure(frames, tmp_path / "a", caption="planted")
    assert [p.name for p in paths] == ["coordinate_check.png", "coordinate_check.svg"]
    again = coordinate_figure(frames, tmp_path / "b", caption="planted")
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    other = coordinate_figure([frame("sp", 0.6), frames[1]], tmp_path / "c", caption="planted")
    assert paths[1].read_bytes() != other[1].read_bytes()


def test_unknown_activation_and_no_frame_are_refused(tmp_path):
    """A panel that cannot be drawn is named, with the nearest that can."""
    with pytest.raises(UserError, match="'hidden'"):
        coordinate_figure([frame("mup", 0.0)], tmp_path, activations=["hiden"])
    with pytest.raises(UserError, match="at least one"):
        coordinate_figure([], tmp_path)
