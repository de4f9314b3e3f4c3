"""The plan: what does not fit is said to, and what is said to fit adds up."""

from dataclasses import replace

import pytest

from cerebella.models.config import preset
from cerebella.models.vla import parameter_table
from cerebella.training.plan import Machine, Plan, count_parameters, for_gpus, plan
from cerebella.training.sample_cost import Sight
from cerebella.training.stages import Stage, xr0_posttrain

XR0 = preset("xr0")
VIEWS = Sight(views=((256, 320),) * 3, num_text_tokens=85)
TALK = Sight(views=((448, 448),), num_text_tokens=80, num_answer_tokens=40)
POSTTRAIN = xr0_posttrain(is_async=True)
PRETRAIN = Stage(
    "pretrain_brain", "choice", ("vision", "language"), 10, 96, 1e-4, num_conversations=16, language_weight=1.0
)


def posttrain(num_gpus: int, memory_gb: float, **options: float) -> Plan:
    return plan(XR0, POSTTRAIN, Machine(num_gpus, memory_gb, **options), VIEWS)  # pyright: ignore[reportArgumentType]


def test_every_parameter_is_counted_once() -> None:
    counts = count_parameters(XR0, POSTTRAIN)
    assert sum(counts.values()) == parameter_table(XR0).total == 4_716_274_176
    assert set(count_parameters(XR0, PRETRAIN)) - set(counts) == {"heads"}


def test_a_full_fine_tuning_needs_more_than_one_gpu_of_80_gb() -> None:
    alone = posttrain(1, 80.0)
    assert alone.best is None
    assert "nothing fits into 80 GB" in alone.advice
    assert "most of it optimiser state" in alone.advice
    assert "more GPUs" in alone.advice
    together = posttrain(8, 80.0)
    assert together.best is not None
    assert together.best.name == "fsdp"
    assert together.best.micro_batch * together.best.num_micro_batches == POSTTRAIN.batch_size // 8
    assert together.trained == ("vision", "language", "cerebellum")


def test_memory_adds_up() -> None:
    for layout in posttrain(8, 80.0).layouts:
        if layout.fits:
            assert layout.total_gb <= 80.0
            assert layout.total_gb >= sum(layout.fixed_gb.values()) + layout.micro_batch * layout.sample_gb - 1e-9
        else:
            assert layout.total_gb > 80.0
    sharded = {layout.name: layout.fixed_gb for layout in posttrain(16, 1000.0).layouts}
    assert list(sharded) != []
    total = sum(count_parameters(XR0, POSTTRAIN).values())
    pieces = {"replicate": 1, "hsdp": 8, "fsdp": 16}
    assert {name: fixed["weights"] for name, fixed in sharded.items()} == pytest.approx(
        {name: 4 * total / num / 1e9 for name, num in pieces.items()}
    )


def test_what_recomputes_fits_more_and_takes_longer() -> None:
    layouts = {layout.recompute: layout for layout in posttrain(8, 40.0).layouts if layout.name == "fsdp"}
    assert layouts[()].micro_batch < layouts["vision", "language"].micro_batch
    assert layouts[()].hours < layouts["vision", "language"].hours


def test_passes_that_add_up_hold_whole_gradients() -> None:
    trained = sum(count for part, count in count_parameters(XR0, POSTTRAIN).items() if part in POSTTRAIN.trains)
    for layout in posttrain(8, 40.0).layouts:
        if layout.name == "fsdp" and layout.fits:
            pieces = 8 if layout.num_micro_batches == 1 else 1
            assert layout.fixed_gb["gradients"] == pytest.approx(4 * trained / pieces / 1e9)


def test_speed_is_that_of_the_machine() -> None:
    slow, fast = posttrain(8, 80.0), posttrain(8, 80.0, tflops=2 * 989.0)
    assert slow.best is not None
    assert fast.best is not None
    assert fast.best.samples_per_s == pytest.approx(2 * slow.best.samples_per_s)
    assert slow.best.hours == pytest.approx(POSTTRAIN.num_steps * POSTTRAIN.batch_size / slow.best.samples_per_s / 3600)


def test_a_frozen_brain_needs_little() -> None:
    frozen = plan(XR0, replace(POSTTRAIN, trains=("cerebellum",)), Machine(1, 48.0), VIEWS)
    assert frozen.best is not None
    assert {layout.recompute for layout in frozen.layouts} == {()}, "nothing is kept that could be recomputed"


def test_conversations_are_part_of_the_step() -> None:
    with pytest.raises(ValueError, match=r"'pretrain_brain' has conversations; say how long they are"):
        plan(XR0, PRETRAIN, Machine(16, 80.0), VIEWS)
    both = plan(XR0, PRETRAIN, Machine(16, 80.0), VIEWS, TALK)
    assert both.best is not None
    assert both.best.micro_batch * both.best.num_micro_batches == (96 + 16) // 16
    assert both.trained == ("vision", "language", "heads")


def test_counts_must_be_shared_evenly() -> None:
    with pytest.raises(ValueError, match="batch_size 128 cannot be split evenly over 48 GPUs; 144 can"):
        posttrain(48, 80.0)
    rounded = for_gpus(POSTTRAIN, 48)
    assert rounded.batch_size == 144
    assert plan(XR0, rounded, Machine(48, 80.0), VIEWS).best is not None
    assert for_gpus(POSTTRAIN, 8) == POSTTRAIN


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_gpus": 0}, "num_gpus must be 1 or more; got 0"),
        ({"memory_gb": -1.0}, "memory_gb must be above 0 GB; got -1.0"),
        ({"tflops": 0.0}, "tflops must be above 0 TFLOP/s"),
        ({"utilisation": 35.0}, "utilisation must be above 0 and at most 1; got 35.0"),
    ],
)
def test_impossible_machines_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(**({"num_gpus": 8, "memory_gb": 80.0} | fields))  # pyright: ignore[reportArgumentType]
