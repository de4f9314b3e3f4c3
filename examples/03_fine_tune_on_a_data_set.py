"""Record a data set, fine-tune a policy on it, and see what it did: two minutes on a CPU.

python examples/03_fine_tune_on_a_data_set.py --out outputs/fine_tune

The data set is a LeRobotDataset v3.0 of the conveyor's scripted expert, a quick one whose arm is shaken, so that the data show
how to recover. With a robot of your own, record with your tools, describe it in an embodiment.json, and begin at `fine_tune`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from cerebella.cli import explain_errors
from cerebella.data.episodes import Feature
from cerebella.data.lerobot_writer import LeRobotWriter
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.dynamic.conveyor_expert import steady_style
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.environment import DynamicEnvironment, DynamicExpert
from cerebella.evaluation.suites import EvalConfig, evaluate
from cerebella.recipes.fine_tune.options import PosttrainAsync
from cerebella.recipes.fine_tune.run import fine_tune
from cerebella.types import Action


@dataclass(frozen=True)
class Example:
    """Sizes that a laptop does in two minutes."""

    start: str = "policies/conveyor-micro"
    num_episodes: int = 72
    out: Path = Path("outputs/fine_tune")


def main(example: Example) -> int:
    """Record, fine-tune, evaluate before and after; the exit code."""
    data, policy = example.out / "data", example.out / "policy"
    record(data, example.num_episodes)
    # "keep": the same robot and task, so its numbers keep their scale. Leave it out for another robot.
    options = PosttrainAsync(start=example.start, data=(str(data),), out=policy, num_steps=60, statistics="keep")
    paths = fine_tune(options)
    for name, directory in (("before", example.start), ("after", str(policy))):
        row = evaluate(EvalConfig("dynamic/conveyor", directory, delay=4, episodes=128))["summary"][0]
        print(f"{name}: {row['successes']} of {row['episodes']} picked, {row['throughput_per_min']:.1f} a minute")
    print("\n".join(f"wrote {path}" for path in (data, *paths)))
    return 0


def record(directory: Path, num_episodes: int, shake_m: float = 0.008) -> None:
    """Episodes of the expert: a state, a picture, an instruction and the right command at every tick."""
    features = {
        "observation.state": Feature("float32", (CONVEYOR.state_dim,), tuple(d.name for d in CONVEYOR.states)),
        "action": Feature("float32", (CONVEYOR.action_dim,), tuple(d.name for d in CONVEYOR.actions)),
        "observation.images.base": Feature("video", (64, 96, 3)),
    }
    robot, random, nothing = (
        DynamicEnvironment(ConveyorTask()),
        np.random.default_rng(0),
        np.zeros((0, CONVEYOR.action_dim), np.float32),
    )
    expert = DynamicExpert(robot, horizon=2, style=steady_style(1, speed=0.45))
    with LeRobotWriter(directory, CONVEYOR.policy_hz, features, CONVEYOR.name) as writer:
        for seed in range(num_episodes):
            robot.reset(seed)
            while not robot.status().is_done:
                seen = robot.observe()
                command = expert.infer(seen, nothing).actions[0]
                frame = {
                    "observation.state": seen.state,
                    "action": command,
                    "observation.images.base": seen.images["base"],
                }
                writer.add_frame(frame, seen.prompt)
                shake = np.append(random.normal(0, shake_m, 2), 0).astype(np.float32)
                robot.apply(Action(command + shake, seen.tick))
            writer.save_episode()


if __name__ == "__main__":
    chosen = tyro.cli(Example)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
