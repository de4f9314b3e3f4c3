from itertools import pairwise

import pytest

from cerebella.training.stages import Stage


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
