"""Without fairseq: everything that can be done is, and what needs it says in one line how to install it."""

from __future__ import annotations

import sys

import pytest
import torch

from mutransfer.errors import UserError
from mutransfer.fairseq_mup import INSTALL, backend, require, weights
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import Config

CONFIG = Config(vocab=11, width=8, heads=2, norm="post", first_position=2, embed_mult=8**0.5, tied=True)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if fairseq were not installed."""
    for name in [x for x in sys.modules if x.partition(".")[0] in ("fairseq", "fairseq_cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fairseq", None)
    monkeypatch.delitem(sys.modules, "mutransfer.fairseq_mup.plugin", raising=False)


def test_each_door_says_how_to_install_it(absent, tmp_path):
    """The exact commands, one line, before anything is started or read."""
    assert "pip install -e '.[fairseq]'" in INSTALL and "pip install --no-deps ve-fairseq==0.12.3" in INSTALL
    doors = (
        require,
        lambda: backend.train(tmp_path, arch="transformer", updates=1, lr=0.1),
        lambda: backend.run([]),
        lambda: weights.read_checkpoint(tmp_path / "none"),
        lambda: __import__("mutransfer.fairseq_mup.plugin"),
    )
    for door in doors:
        with pytest.raises(UserError) as error:
            door()
        assert str(error.value).startswith(INSTALL) and "\n" not in str(error.value)


def test_a_missing_part_of_it_is_named(absent, monkeypatch, tmp_path):
    """--no-deps was given, but not the extra."""
    monkeypatch.delitem(sys.modules, "fairseq")
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("import hydra_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="No module named 'hydra_that_is_not_there'"):
        require()


def test_weights_need_no_fairseq(absent):
    """A state dict and options are plain data."""
    ours = EncoderDecoder(CONFIG)
    again = weights.from_fairseq(weights.to_fairseq(ours), weights.options_of(CONFIG))
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize(
    "change", [{"positions": "learned"}, {"bias": False}, {"d_head": 3}, {"position_mult": 2.0}, {"output_mult": 2.0}]
)
def test_what_fairseq_lacks_is_named(change):
    """A model of ours that no options of fairseq's describe."""
    with pytest.raises(UserError, match=next(iter(change))):
        weights.to_fairseq(EncoderDecoder(Config(**{**vars(CONFIG), **change})))
