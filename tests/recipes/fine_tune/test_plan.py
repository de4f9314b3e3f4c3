"""Before any work: what does not fit is one sentence, and what fits is counted exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro

from cerebella.data.episodes import DataFault
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.recipes.fine_tune.options import (
    FINE_TUNES,
    STAGES,
    FineTune,
    Libero,
    PosttrainAsync,
    PretrainBrain,
    PretrainCerebellum,
)
from cerebella.recipes.fine_tune.plan import Plan, claim, make_plan
from cerebella.recipes.fine_tune.report import summary
from cerebella.recipes.paper import RECIPES
from cerebella.training.parallel import World
from tests.data.test_xr0_episodes import two_arms
from tests.recipes.fine_tune.conveyor_set import write_set

SHIPPED = Path(__file__).parents[3] / "policies" / "conveyor-micro"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_set(root / "belt", num_episodes=3)
    write_set(root / "slow", num_episodes=2, fps=10)
    write_set(root / "jaw", num_episodes=2, names=["gripper_x", "gripper_y", "jaw", "belt_speed"])
    CONVEYOR.save(root / "conveyor.json")
    two_arms().save(root / "two_arms.json")
    line = '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}\n'
    (root / "talk.jsonl").write_text(9 * line)
    return root


def plan(sets: Path, kind: type[FineTune] = PosttrainAsync, size: int = 1, **options: Any) -> Plan:
    chosen = {"start": str(SHIPPED), "data": (str(sets / "belt"),), "out": sets / "never"} | options
    return make_plan(kind(**chosen), World(0, size, torch.device("cpu")))


def test_the_recipes_are_the_stages_of_the_paper() -> None:
    assert [kind.recipe for kind in FINE_TUNES] == list(STAGES)
    for kind in FINE_TUNES:
        options = kind(**{"start": "x", "data": ("x",), "out": Path("x")})  # pyright: ignore[reportArgumentType]
        stage = options.stage(0, has_new_brain=False)
        assert stage == STAGES[kind.recipe], "options that nobody changed change nothing"
    for name in ("libero", "calvin", "simpler"):
        assert STAGES[name] == RECIPES[f"xr0-{name}"].stages[0]


def test_an_option_replaces_the_field_of_its_name(sets: Path) -> None:
    stage = plan(
        sets, max_prefix=3, prefix_law="uniform_0_to_max", ema_decay=0.5, num_steps=50, trains=("cerebellum",)
    ).stage
    assert (stage.max_prefix, stage.prefix_law, stage.ema_decay, stage.trains) == (
        3,
        "uniform_0_to_max",
        0.5,
        ("cerebellum",),
    )
    assert stage.num_warmup_steps == 5


@pytest.mark.parametrize(
    ("batch_size", "ratio", "size", "parts", "num"),
    [(32, 1 / 6, 1, 1, 5), (48, 1 / 6, 2, 2, 8), (4, 0.25, 1, 1, 1), (8, 1.0, 2, 1, 8), (33, 0.1667, 1, 1, 6)],
)
def test_every_step_has_whole_conversations(
    sets: Path, batch_size: int, ratio: float, size: int, parts: int, num: int
) -> None:
    planned = plan(
        sets,
        size=size,
        batch_size=batch_size,
        num_micro_batches=parts,
        conversations=(str(sets / "talk.jsonl"),),
        vl_ratio=ratio,
    )
    assert (planned.stage.batch_size, planned.stage.num_conversations) == (batch_size, num)
    lanes = size * parts
    for step in (0, 1, 2, 1000, 123_456):
        rows = {draw.source: draw.num_rows * lanes for draw in planned.mixture.draws(step)}
        assert rows == {0: batch_size, 1: num}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "nowhere"}, "'nowhere' is neither a preset"),
        ({"out": Path()}, "--out is empty: name a directory"),
        ({"out": SHIPPED}, "holds a finished policy; choose another --out"),
        ({"data": ()}, "--data names no data set"),
        ({"conversations": ("talk.jsonl",)}, "--conversations needs --vl-ratio above 0"),
        ({"vl_ratio": 0.2}, "--vl-ratio 0.2 needs --conversations"),
        (
            {"conversations": ("x",), "vl_ratio": 0.01, "batch_size": 4},
            "come to 0.04 conversations a step.*a multiple of 100",
        ),
        ({"batch_size": 33, "num_micro_batches": 2}, "--batch-size 33 must be a multiple of 2"),
        ({"num_micro_batches": 0}, "--num-micro-batches must be 1 or more"),
        ({"weights": (1.0, 2.0)}, "--weights takes one number for each of 1 data sets; got 2"),
        ({"weights": (0.0,)}, "the weight of 'belt' must be above 0"),
        ({"max_prefix": 16}, "--max-prefix 16 must be below the horizon of 16 rows"),
        ({"start": "micro"}, "micro does not say what the numbers of your robot mean: give --embodiment"),
        ({"num_steps": 0}, "num_steps must be 1 or more"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, Any], message: str, sets: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        plan(sets, **options)
    assert "\n" not in str(caught.value)
    assert not (sets / "never" / "run").exists()


def test_data_that_do_not_fit(sets: Path) -> None:
    with pytest.raises(ValueError, match="has no state called 'left_x'"):
        plan(sets, embodiment=(sets / "two_arms.json",))
    with pytest.raises(
        DataFault, match=r"wrong fps: 10\.0 frames/s; the embodiment 'conveyor' has rows at 30\.0 Hz\. .*policy_hz 10,"
    ):
        plan(sets, data=(str(sets / "slow"),))
    with pytest.raises(FileNotFoundError, match=r"there is no data set .*blt'. Did you mean .*belt'"):
        plan(sets, data=(str(sets / "blt"),))
    with pytest.raises(ValueError, match="--embodiment takes one file, or one for each of 1 data sets; got 2"):
        plan(sets, embodiment=(sets / "conveyor.json", sets / "conveyor.json"))
    with pytest.raises(ValueError, match="trains cerebellum: no part of the brain, which conversations would teach"):
        plan(sets, PretrainCerebellum, conversations=(str(sets / "talk.jsonl"),), vl_ratio=0.2)


def test_an_action_that_no_set_records_is_refused(sets: Path) -> None:
    (sets / "map.json").write_text(
        json.dumps(
            {
                "state": [
                    {"column": "observation.state", "start": 0, "stop": 4, "names": [d.name for d in CONVEYOR.states]}
                ],
                "action": [{"column": "action", "start": 0, "stop": 2, "names": ["gripper_x", "gripper_y"]}],
                "views": {"base": "observation.images.base"},
            }
        )
    )
    with pytest.raises(ValueError, match="jaw: no column holds the action 'gripper_opening' of conveyor/end_effector"):
        plan(sets, data=(str(sets / "jaw"),), map=(str(sets / "map.json"),))
    both = plan(sets, data=(str(sets / "belt"), str(sets / "jaw")), map=("names", str(sets / "map.json")))
    assert "jaw: does not record the action 'gripper_opening'" in summary(both)


def test_pictures_must_fit_a_policy_that_takes_them_as_they_are(sets: Path, tmp_path: Path) -> None:
    path = write_set(tmp_path / "odd", num_episodes=2, size=(60, 90))
    with pytest.raises(
        ValueError, match=r"odd: pictures of base are 60 x 90 px; .* multiples of 16 px. --max-pixels 90000"
    ):
        plan(sets, data=(str(path),))
    assert plan(sets, data=(str(path),), max_pixels=90_000).start.images.max_pixels == 90_000


def test_a_run_may_go_on_with_fewer_processes(sets: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "run", "batch_size": 8}
    begun = plan(sets, size=4, **options)
    claim(begun)
    again = plan(sets, size=2, **options)
    claim(again)
    assert again.mixture.fingerprint == begun.mixture.fingerprint
    with pytest.raises(ValueError, match="begun with 4 processes x micro-batches; 8 x 1 do not divide them"):
        plan(sets, size=8, **options)


def test_the_command_lines_of_the_manual_are_understood() -> None:
    parsed = tyro.cli(
        PosttrainAsync,
        args=[
            "--start",
            "policies/conveyor-micro",
            "--data",
            "my_set",
            "--out",
            "mine",
            "--num-steps",
            "2000",
            "--batch-size",
            "32",
            "--view",
            "base=observation.images.top",
            "--unit",
            "shoulder=deg",
            "--no-reweight-errors",
        ],
    )
    assert (parsed.data, parsed.num_steps, parsed.unit, parsed.reweight_errors) == (
        ("my_set",),
        2000,
        ("shoulder=deg",),
        False,
    )
    brain = tyro.cli(
        PretrainBrain,
        args=[
            "--start",
            "nano",
            "--data",
            "set_a",
            "set_b",
            "--weights",
            "2",
            "1",
            "--conversations",
            "scenes/train.jsonl",
            "--vl-ratio",
            "0.1667",
            "--out",
            "b",
        ],
    )
    assert (brain.weights, brain.conversations, brain.vl_ratio) == ((2.0, 1.0), ("scenes/train.jsonl",), 0.1667)
    libero = tyro.cli(Libero, args=["--data", "libero_lerobot", "--out", "mine"])
    assert (libero.horizon, libero.robot, libero.map, libero.num_steps) == (10, "libero_all", ("order",), 30_000)


def test_the_summary_counts(sets: Path) -> None:
    planned = plan(
        sets, conversations=(str(sets / "talk.jsonl"),), vl_ratio=0.25, data=(str(sets / "belt"),), horizon=8
    )
    lines = summary(planned).splitlines()
    assert lines[0].endswith("3.2 M parameters, horizon 8, attention rule lambda, offset 10")
    assert "5000 steps of 32 windows and 8 conversations" in lines[1]
    rows = [line.split() for line in lines[4:]]
    assert rows[1] == ["belt", "conveyor/end_effector", "2", "1", "0", "72", "30", "30", "34", "80.0%", "0", "-"]
    assert rows[2][:2] == ["talk.jsonl", "conversations"]
    assert rows[2][-4:] == ["9", "20.0%", "-", "-"]
