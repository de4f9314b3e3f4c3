import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from cerebella.models.flow import TimeLaw, sample_flow_time
from cerebella.recipes.conveyor import STAGES
from cerebella.training.optimizer import make_optimizer
from cerebella.training.stages import Part, Stage
from tests.training.tiny import fresh


def stage(**fields: object) -> Stage:
    settings: dict[str, object] = {
        "name": "posttrain_async",
        "objective": "flow",
        "trains": ("cerebellum",),
        "num_steps": 100,
        "batch_size": 4,
        "learning_rate": 1.0,
        "num_warmup_steps": 10,
        "final_learning_rate": 0.1,
    }
    return Stage(**(settings | fields))  # pyright: ignore[reportArgumentType]


def test_the_learning_rate_rises_linearly_and_falls_to_its_end() -> None:
    rates = [stage().learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0) == max(rates)
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_settings_decide_the_fingerprint() -> None:
    assert stage().fingerprint == stage().fingerprint != stage(num_steps=101).fingerprint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "pretrain"}, "unknown stage 'pretrain'; known stages: warmup_vision"),
        ({"objective": "text"}, "unknown objective 'text'; known: vision, flow"),
        ({"trains": ("hands",)}, "known parts: vision, language, embeddings, cerebellum"),
        ({"trains": ()}, "known parts"),
        ({"batch_size": 0}, "batch_size must be 1 or more; got 0"),
        ({"hide_probability": 2.0}, r"hide_probability must be in 0..1; got 2.0"),
        ({"async_probability": 0.5}, "max_prefix 0 rows must both be zero or both be positive"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage(**fields)


def test_fields_that_came_later_leave_older_fingerprints_alone() -> None:
    """The shipped policy remembers its stages; their settings have not changed, so neither have their names."""
    config = json.loads((Path(__file__).parents[2] / "policies" / "conveyor-micro" / "config.json").read_text())
    assert [s.fingerprint for s in STAGES] == [record["fingerprint"] for record in config["stages"]]
    assert stage(ema_decay=0.9).fingerprint != stage().fingerprint


def test_a_warm_up_may_start_at_a_given_rate() -> None:
    warm = stage(first_learning_rate=0.5)
    assert [warm.learning_rate_at(step) for step in (0, 5, 10)] == pytest.approx([0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prefix_law": "half"}, "prefix_law is 'half'; known: half_zero_uniform, uniform_0_to_max"),
        ({"time_law": "gamma"}, "time_law is 'gamma'; known: beta, uniform, logit_normal"),
        ({"ema_decay": 1.0}, "ema_decay must be 0 or more and below 1; got 1.0"),
        ({"num_conversations": 4}, "language_weight 0.0 must both be zero or both be positive"),
        ({"objective": "next_token"}, "batch_size must be 0 with the objective next_token; got 4"),
        ({"objective": "next_token", "batch_size": 0}, "needs num_conversations of 1 or more"),
    ],
)
def test_bad_mixtures_and_laws_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage(**fields)


def test_the_released_groups_decay_embeddings_and_the_sink_and_ours_do_not() -> None:
    modules = fresh()
    everything: tuple[Part, ...] = ("vision", "language", "embeddings", "cerebellum")
    names = {parameter: name for name, parameter in modules.named_parameters()}
    decayed = {}
    for rule in ("matrices", "released"):
        groups = make_optimizer(modules, stage(trains=everything, decay_rule=rule, brain_rate=0.1)).param_groups
        decayed[rule] = {names[p] for group in groups if group["weight_decay"] for p in group["params"]}
        assert {group["rate"] for group in groups if group["params"]} == {0.1, 1.0}
        assert sum(len(group["params"]) for group in groups) == sum(not n.startswith("heads") for n in names.values())
    assert "model.cerebellum.layers.0.mlp.up_proj.weight" in decayed["matrices"] & decayed["released"]
    for name in ("model.cerebellum.sink.weight", "model.brain.model.language_model.embed_tokens.weight"):
        assert name in decayed["released"] - decayed["matrices"]
    undecayed = set(names.values()) - decayed["released"] - decayed["matrices"]
    assert {"model.cerebellum.layers.0.adaln_table", "model.cerebellum.layers.0.attn.q_norm.weight"} <= undecayed
    assert "model.brain.model.visual.blocks.0.attn.qkv.bias" in undecayed


@pytest.mark.parametrize("law", ["uniform", "logit_normal"])
def test_the_other_laws_of_flow_time(law: TimeLaw) -> None:
    num = 20_000
    drawn = sample_flow_time((num,), torch.Generator().manual_seed(0), law=law).double().sort().values
    expected = drawn if law == "uniform" else 0.5 * (1 + (drawn.logit() / 2**0.5).erf())
    empirical = torch.arange(1, num + 1) / num
    assert (empirical - expected).abs().max().item() * num**0.5 < 1.95, "beyond the 0.1 % quantile"
