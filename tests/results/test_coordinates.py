"""The coordinate check against theory, as a picture and in words, and its CSV."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from mutransfer import coordinate_figure
from mutransfer.errors import UserError
from mutransfer.results import coordinates
from mutransfer.results.coordinates import COLUMNS, CoordFrame, against_theory, coord_frames
from mutransfer.results.folder import FigureFolder
from mutransfer.results.schema import Facts

SHOWN = {"output": "logits", "blocks.1.logits": "attention logits, block 2", "embed": "word embedding"}


def transformer(parametrization, exponents, later=None, optimizer="adam"):
    """A frame whose changes grow with these exponents at the first step at which they move (1, 2, 1), and with
    ``later`` after that; two seeds differ by a factor. At step 0 the values are Theta(1).
    """
    rows = []
    for (name, first, start, after), w, seed, step in product(
        zip(SHOWN, exponents, (1, 2, 1), later or exponents, strict=True), (64, 128, 256), (0, 1), range(4)
    ):
        power = first if step == start else after
        rms = 0.0 if step < start else 1e-3 * (1 + 0.1 * seed) * step * w**power
        rows.append((w, seed, step, name, "change" if step else "value", rms if step else 0.7))
    return CoordFrame(pd.DataFrame(rows, columns=COLUMNS), parametrization, optimizer, frozenset({"output"}))


THEORY = (transformer("sp", (1.0, 1.5, 0.0)), transformer("mup", (0.0, 0.0, 0.0)))


def table(frames=THEORY):
    """As coordinates.csv holds them, every cell a text."""
    parts = [f.data.assign(parametrization=f.parametrization, optimizer=f.optimizer) for f in frames]
    return pd.concat(parts)[[*coordinates.OWNER, *COLUMNS]].map(str)


def test_one_row_for_every_frame_and_one_column_for_every_activation(tmp_path, words):
    """SP above µP with the verdict in words and its exponent in every panel; what cannot be drawn is named."""
    paths = coordinate_figure(THEORY, tmp_path, caption="planted", banner="STAND-IN")
    assert [p.name for p in paths] == ["coordinate_check.png", "coordinate_check.svg"]
    said = [line.strip() for line in "\n".join(words(paths[1])).splitlines()]
    assert said.count("grows: width$^{1.00}$") == 1 and said.count("ok: width$^{0.00}$") == 4
    assert {"embed", "blocks.1.logits", "output", "planted", "STAND-IN", "t = 2", "SP, adam", "µP, adam"} <= set(said)
    with pytest.raises(UserError, match="'embed'"):
        coordinate_figure(THEORY, tmp_path, activations={"embd": "word embedding"})
    with pytest.raises(UserError, match="at least one"):
        coordinate_figure([], tmp_path)


def test_a_table_gives_back_its_frames():
    """Every bit of every float, inf and NaN, the order of activations, and whose rows they are."""
    odd = np.abs(np.frombuffer(np.random.default_rng(0).bytes(8 * len(THEORY[0].data)), dtype=float))
    odd[:4] = [np.inf, np.nan, 0.0, 5e-324]
    frames = [replace(THEORY[0], data=THEORY[0].data.assign(rms=odd)), THEORY[1]]
    for old, new in zip(frames, coord_frames(table(frames), ["output", "not measured"]), strict=True):
        pd.testing.assert_frame_equal(old.data, new.data.astype(dict(old.data.dtypes)), check_exact=True)
        assert replace(old, data=None) == replace(new, data=None)
    assert not coord_frames(table())[0].may_shrink_at_init


def test_a_bad_table_is_refused():
    """A gap or a double is named."""
    good = table()
    for bad, words in (
        (good.replace({"rms": "0.7"}, ""), "has '' as rms, expected a number"),
        (good.head(-1), "lacks 1 of 54 runs, first width 256, seed 1, step 3, activation embed"),
        (pd.concat([good, good.tail(1)]), "1 runs of the check .* stand there twice"),
    ):
        with pytest.raises(UserError, match=words):
            coord_frames(bad)


GROWS, STAYS = "grows as theory says", "stays as theory says"


@pytest.mark.parametrize(
    ("parametrization", "exponents", "later", "words"),
    [
        ("sp", (1.0, 1.5, 0.0), None, (GROWS, GROWS, STAYS)),
        ("sp", (1.24, 2.5, 0.24), None, (GROWS, GROWS, STAYS)),
        ("sp", (0.74, 1.24, 0), None, ("grows, slower than theory says", "grows, slower than theory says", STAYS)),
        ("sp", (1.26, 1.5, 0.5), None, ("grows, faster than theory says", GROWS, "grows; theory says it stays")),
        ("sp", (0.0, 0.1, -0.5), None, ("stays; theory says it grows", "stays; theory", "shrinks; theory says")),
        ("sp", (1.0, 1.5, 0.0), (0.5, 0, -0.3), (GROWS, "stays at step 3, grows at step 2;", "stays at step 1,")),
        ("mup", (0.0, -0.2, 0.0), None, (STAYS,) * 3),
        ("mup", (0.5, -0.5, 0.0), None, ("grows; theory says it stays", "shrinks; theory says it stays", STAYS)),
    ],
)
def test_against_theory(parametrization, exponents, later, words):
    """The first move must meet the derived exponent, every later one must go the same way."""
    frame = transformer(parametrization, exponents, later)
    for (name, heading), expected in zip(SHOWN.items(), words, strict=True):
        assert against_theory(frame, name, heading.split(",")[0]).startswith(expected)


def test_where_nothing_is_derived():
    """Another optimizer or parametrization has its verdict and no theory; what never moves says so."""
    assert against_theory(transformer("sp", (1, 1.5, 0), optimizer="sgd"), "output", "logits") == "grows"
    assert against_theory(transformer("ntk", (0, 0, 0)), "embed", "word embedding") == "stays"
    still = transformer("mup", (0, 0, 0))
    still.data["rms"] = 0.0
    assert against_theory(still, "output", "logits") == "never moves"
    with pytest.raises(UserError, match="'logits'"):
        against_theory(still, "output", "logit")


def test_a_folder_is_read_told_and_drawn(tmp_path, words):
    """From coordinates.csv and the provenance: exponents with intervals, theory beside them, what does not stay."""
    provenance = {"title": "Transformer", "scale": "smoke", "data_source": "books", "data_is_real": False}
    provenance["coordinates"] = {"activations": SHOWN, "may_shrink_at_init": ["output"], "lr": 0.01}
    table().to_csv(tmp_path / "coordinates.csv", index=False)
    shown = coordinates.read_coordinates(FigureFolder(tmp_path, provenance))
    first = "Coordinate check, SP: logits: grows as theory says (width^1.00 [1.00, 1.00] after step 1)"
    text = shown.section
    assert shown.lines[0].startswith(first)
    sp = "| SP | attention logits, block 2 | has not moved | 1.50 [1.50, 1.50] | 1.50 [1.50, 1.50] | at least 1.5 |"
    assert sp in text and "within 0.25" in text
    assert "| µP | logits | 0.00 [0.00, 0.00] | 0.00 [0.00, 0.00] | 0.00 [0.00, 0.00] | 0 | **stays as theory" in text
    assert "SP, 3 activations measured, values at init and changes: 2 of them do not stay: output (grows)" in text
    assert "µP, 3 activations measured, values at init and changes: every one stays." in text
    said = " ".join(" ".join(words(shown.draw(FigureFolder(tmp_path, provenance))[1])).split())
    assert "STAND-IN DATA" in said and "attention logits, block 2" in said and "Learning rate: 0.01." in said
    with pytest.raises(UserError, match=r"lacks coordinates\.activations"):
        coordinates.read_coordinates(FigureFolder(tmp_path, Facts(provenance | {"coordinates": {}}, tmp_path)))
