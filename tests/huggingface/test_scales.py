"""The core on Hugging Face's own BERT: passes the coordinate check in µP, fails it in SP and without its scale."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nets import grows
from torch import nn

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from transformers import BertForMaskedLM, BertForPreTraining, GPT2Config, GPT2LMHeadModel

from mutransfer import coord_check, scaling_plan
from mutransfer.errors import UserError
from mutransfer.huggingface import set_attention_scale
from mutransfer.results.coordinates import CoordVerdict
from tests.huggingface.nets import batch, built, config, theirs

WIDTHS = (128, 256, 512)  # narrower, the random part of the tied readout still moves it as much as what it learns
SHRINK = ["cls", "cls.predictions"]  # their output is the readout's


def sized(width: int, heads: int = 2, depth: int = 2, **changes):
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    return config(**sizes, num_attention_heads=heads, num_hidden_layers=depth, **dropout, **changes)


def checked(parametrization: str, *, is_scaled: bool, widths: tuple[int, ...] = WIDTHS[:2]) -> CoordVerdict:
    """Of few tokens beside the narrowest d_head: queries cannot align with more keys than they have coordinates."""

    def build(width: int) -> nn.Module:
        model = BertForMaskedLM(sized(width, attn_implementation="eager"))
        if is_scaled:
            set_attention_scale(model, WIDTHS[0] // 2)
        return model

    inputs = theirs(*batch((5,)))
    target = inputs["input_ids"].roll(1)
    settings = {"parametrization": parametrization, "lr": 2**-11, "steps": 3, "seeds": 2, "may_shrink_at_init": SHRINK}
    settings["loss"] = lambda out, target: F.cross_entropy(out.logits[0], target[0])
    return coord_check(build, widths, [(inputs, target)], **settings).verdict()


QUERY = "bert.encoder.layer.0.attention.self.query"
WEIGHTS = {f"bert.encoder.layer.{i}.attention.self[1]" for i in range(2)}  # of attention; eager returns them


def test_passes_in_mup() -> None:
    """Every activation of every module."""
    verdict = checked("mup", is_scaled=True, widths=WIDTHS)
    assert verdict.ok, str(verdict)
    seen = {QUERY, *WEIGHTS, "output", "bert.embeddings.token_type_embeddings", "cls.predictions.decoder"}
    assert seen <= set(verdict)


def test_fails_in_mup_without_the_scale() -> None:
    """The plan alone is not µP here: with 1/sqrt(d), and only because of it, attention weights grow by sqrt(width)."""
    verdict = checked("mup", is_scaled=False)
    assert grows(verdict) >= WEIGHTS and all(name.endswith("[1]") for name in grows(verdict))
    assert verdict[min(WEIGHTS)]["exponent"] == pytest.approx(0.5, abs=0.15)


def test_fails_in_sp() -> None:
    """Theirs as it is: queries, what the blocks add and the logits grow; the embeddings do not."""
    verdict = checked("sp", is_scaled=False)
    assert {QUERY, "bert.encoder.layer.1.output.dense", "cls.predictions.decoder", "output"} <= grows(verdict)
    assert verdict["bert.embeddings.word_embeddings"]["verdict"] == "ok"


def test_roles() -> None:
    """All tensors are classified; the tied decoder is read behind 1/m; biases of outputs do not scale."""
    base, target = (BertForPreTraining(sized(n)) for n in (64, 256))
    plan = scaling_plan(base, target, optimizer="adamw")
    assert list(plan) == [name for name, _ in target.named_parameters(remove_duplicate=False)]
    hidden = {name for name in plan if plan[name].role.value == "hidden"}
    assert hidden == {n for n in plan if n.endswith(("query.weight", "key.weight", "value.weight", "dense.weight"))}
    assert plan["cls.predictions.decoder.weight"].multiplier == 1 / 4
    assert plan["cls.predictions.decoder.weight"].lr == plan["bert.embeddings.token_type_embeddings.weight"].lr == 1
    assert plan[f"{QUERY}.weight"].lr == 1 / 4 and plan[f"{QUERY}.weight"].init_std == 1 / 2
    assert plan["cls.predictions.bias"].role.value == plan["cls.predictions.decoder.bias"].role.value == "scalar"
    readout = plan["cls.seq_relationship.weight"]
    assert readout.role.value == "output" and readout.lr == 1 / 4


def test_depth_and_width_may_both_differ() -> None:
    """Two layers to four wider ones; each draw of the small tables can be told (`_init_weights`)."""
    plan = scaling_plan(BertForPreTraining(sized(64)), BertForPreTraining(sized(128, depth=4)), optimizer="adamw")
    assert plan["bert.encoder.layer.3.output.dense.weight"] == plan["bert.encoder.layer.0.output.dense.weight"]
    for seed in range(8):
        torch.manual_seed(seed)
        base, model = BertForPreTraining(sized(64)), BertForPreTraining(sized(128, depth=4))
        plan.initialize(model, base)
        for layer in model.bert.encoder.layer:  # 0.02 at every width is theirs; 0.02 / sqrt(m) is µP's
            assert layer.output.dense.weight.std().item() == pytest.approx(0.02 / 2**0.5, rel=0.03)


def test_at_the_base_width_it_is_theirs_bit_for_bit() -> None:
    """The plan and the scale change nothing there; at another width they do."""

    def fresh(width: int) -> nn.Module:
        torch.manual_seed(0)
        return BertForMaskedLM(sized(width))

    for width, is_same in ((16, True), (64, False)):
        plain, model = fresh(width), fresh(width)
        set_attention_scale(model, 8)
        scaling_plan(fresh(16), model).initialize(model, fresh(16))
        a, b = (net(**theirs(*batch())).logits for net in (plain, model))
        assert torch.equal(a, b) == is_same


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_reads_the_scale(attention: str) -> None:
    """Half the scale is as half the queries, whatever computes attention."""
    model, other = (built(BertForMaskedLM, attn_implementation=attention) for _ in range(2))
    before = model(**theirs(*batch())).logits
    set_attention_scale(model, 2)  # d_head 8: sqrt(2) / 8 = 1 / sqrt(8) / 2
    assert model.bert.encoder.layer[0].attention.self.scaling == 2**0.5 / 8
    with torch.no_grad():
        for layer in other.bert.encoder.layer:
            layer.attention.self.query.weight /= 2
            layer.attention.self.query.bias /= 2
    after = model(**theirs(*batch())).logits
    torch.testing.assert_close(after, other(**theirs(*batch())).logits, atol=1e-6, rtol=1e-6)
    assert (after - before).abs().max() > 1e-3


def test_scales() -> None:
    """Another parametrization's, a multiplier; more heads of one size need none; another family of models."""
    for changes, want in (({"parametrization": "sp"}, 8**-0.5), ({"alpha_attn": 3.0}, 3 * 2**0.5 / 8)):
        set_attention_scale(model := built(BertForMaskedLM), 2, **changes)
        assert model.bert.encoder.layer[1].attention.self.scaling == pytest.approx(want)
    set_attention_scale(model := built(BertForMaskedLM, hidden_size=32, num_attention_heads=4), 8)
    assert model.bert.encoder.layer[0].attention.self.scaling == 8**-0.5
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0))
    set_attention_scale(gpt, 4)
    assert [block.attn.scaling for block in gpt.transformer.h] == [2 / 16] * 2


def test_what_it_does_not_know_is_refused() -> None:
    """No such attention; a scale that is not 1/sqrt(d_head), as after a first call, and then nothing is changed."""
    with pytest.raises(UserError, match="Linear has no attention with the attributes 'scaling'"):
        set_attention_scale(nn.Linear(2, 2), 8)
    model = built(BertForMaskedLM)
    model.bert.encoder.layer[1].attention.self.scaling = 1.0
    with pytest.raises(UserError, match=r"'bert.encoder.layer.1.attention.self' has scaling 1, expected"):
        set_attention_scale(model, 2)
    assert model.bert.encoder.layer[0].attention.self.scaling == 8**-0.5
