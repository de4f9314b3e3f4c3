"""Films of the trap: the same episodes under several methods side by side, from stored policies.

Which episodes is decided by a rule and not by how they end: the first ones in which the event comes right after a request
of `clean`, so that the chunk which is on its way knows nothing of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.task import Task, TaskState, concatenate
from cerebella.evaluation.rollout import Episode, rollout_virtual
from cerebella.evaluation.suites import executor_config
from cerebella.evaluation.video import write_video
from cerebella.interfaces import Policy
from cerebella.recipes.state_training import is_finished
from cerebella.recipes.study_async.cells import PolicyName, RolloutName
from cerebella.recipes.study_async.figures import COLOURS
from cerebella.recipes.study_async.measuring import Bench, delay_trace, make_bench
from cerebella.recipes.study_async.methods import METHODS
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe
from cerebella.types import Action, ImageArray

FILMED = ("sync", "naive", "ensemble", "guided", "clean", "all")
"""What is filmed of a study that has them; of one with few methods all are."""
DELAY, NUM_EPISODES = 4, 2
_HEIGHT, _WIDTH, _CAPTION, _GAP, _COLUMNS = 160, 240, 26, 8, 3
_LATEST_EVENT = 3
_PAUSE_FRAMES, _EVENT_FRAMES, _FRAME_STEP = 24, 20, 2
_PAPER, _INK, _GOOD, _BAD = "#fafaf8", "#1c2026", "#16784f", "#be3c1e"


@dataclass(frozen=True)
class Take:
    """One episode under one method: `states[k]` is the scene at tick k."""

    method: str
    episode: Episode
    states: Sequence[TaskState]


class _Filmed(DynamicEnvironment[Any]):
    """Keeps every state of the episode."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.states = [self.snapshot()]

    def apply(self, action: Action) -> None:
        super().apply(action)
        self.states.append(self.snapshot())


def write_videos(recipe: StudyAsyncRecipe, task: str = "jammed_drawer") -> list[Path]:
    """`trap-<task>.mp4` and `.gif` beside the page's pictures; returns their paths.

    Raises:
        FileNotFoundError: a policy has not been trained (names it).
        ValueError: no episode has its event right after a request.
    """
    bench = make_bench(recipe if task in recipe.tasks else replace(recipe, tasks=(task,)))
    names = [name for name in FILMED if name in recipe.methods]
    names = names if len(names) > 1 else list(recipe.methods)
    policies = {name: _stored(bench, task, METHODS[name].variant) for name in names}
    judge = "clean" if "clean" in policies else names[-1]
    half = recipe.horizons[0] // 2
    name = RolloutName(task, recipe.horizons[0], half, judge, DELAY, True, recipe.seeds[0])
    judged = bench.drive(policies[judge], name)
    seeds = [episode.seed for episode in judged if 1 <= _event_after_request(episode) <= _LATEST_EVENT][:NUM_EPISODES]
    if not seeds:
        raise ValueError(f"{task}: in none of {len(judged)} episodes the event comes right after a request of {judge}")
    takes = [film(bench, policies[name], task, name, seeds) for name in names]
    recipe.media.mkdir(parents=True, exist_ok=True)
    paths = [recipe.media / f"trap-{task}.{kind}" for kind in ("mp4", "gif")]
    scenes = list(zip(*takes, strict=True))
    control_hz = bench.tasks[task].embodiment.control_hz
    frames = list(draw(bench.tasks[task], scenes))
    write_video(paths[0], frames, control_hz)
    _write_gif(paths[1], [Image.fromarray(frame) for frame in frames[::_FRAME_STEP]], _FRAME_STEP / control_hz)
    return paths


def film(bench: Bench, policy: Policy, task: str, method: str, seeds: Sequence[int]) -> list[Take]:
    """Disturbed episodes of these seeds, one after the other, with every state."""
    config = executor_config(METHODS[method].mode, policy.metadata.horizon // 2)
    takes = []
    for seed in seeds:
        environment = _Filmed(bench.tasks[task], bench.with_images, perturbation=True)
        trace = delay_trace(DELAY, METHODS[method].margin)
        [episode] = rollout_virtual(policy, lambda env=environment: env, config, trace, [seed], batch=1)
        takes.append(Take(method, episode, environment.states))
    return takes


def draw(task: Task[Any], scenes: Sequence[Sequence[Take]]) -> Iterator[ImageArray]:
    """Frames of all scenes, one after the other; the methods of a scene in a grid, each still when it has ended."""
    for takes in scenes:
        pictures = [task.render(concatenate(take.states), _HEIGHT, _WIDTH) for take in takes]
        for k in range(max(map(len, pictures)) + _PAUSE_FRAMES):
            yield _grid(
                [_panel(take, shown[min(k, len(shown) - 1)], k) for take, shown in zip(takes, pictures, strict=True)]
            )


def _panel(take: Take, picture: ImageArray, k: int) -> Image.Image:
    canvas = Image.new("RGB", (_WIDTH, _CAPTION + _HEIGHT), _PAPER)
    canvas.paste(Image.fromarray(picture), (0, _CAPTION))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 5, 4, _CAPTION - 5), fill=COLOURS[take.method])
    draw.text((10, _CAPTION // 2), take.method, font=_font(15), fill=_INK, anchor="lm")
    status, event = take.episode.status, int(take.episode.status.metrics["perturbation_tick"])
    if k >= len(take.states) - 1:
        colour = _GOOD if status.is_success else _BAD
        draw.text((_WIDTH - 4, _CAPTION // 2), status.reason, font=_font(14), fill=colour, anchor="rm")
        draw.rectangle((0, _CAPTION, _WIDTH - 1, _CAPTION + _HEIGHT - 1), outline=colour, width=3)
    elif 0 <= event <= k < event + _EVENT_FRAMES:
        draw.text(
            (_WIDTH - 4, _CAPTION // 2),
            f"event {(k - event) / take.episode.log.control_hz:.1f} s ago",
            font=_font(13),
            fill=_BAD,
            anchor="rm",
        )
    return canvas


def _grid(panels: Sequence[Image.Image]) -> ImageArray:
    num_columns = min(_COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    width, height = _WIDTH + _GAP, _CAPTION + _HEIGHT + _GAP
    canvas = Image.new("RGB", (num_columns * width + _GAP, num_rows * height + _GAP), _PAPER)
    for i, panel in enumerate(panels):
        row, column = divmod(i, num_columns)
        canvas.paste(panel, (_GAP + column * width, _GAP + row * height))
    return np.asarray(canvas)


def _write_gif(path: Path, frames: Sequence[Image.Image], frame_s: float) -> None:
    """One palette for all frames, so that only what moves is stored."""
    palette = frames[len(frames) // 2].quantize(colors=96)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    small[0].save(path, save_all=True, append_images=small[1:], duration=round(1000 * frame_s), loop=0, optimize=True)


def _event_after_request(episode: Episode) -> int:
    """Ticks from the last request before the event to the event; -1 without any."""
    event = int(episode.status.metrics["perturbation_tick"])
    asked = [request.observation_tick for request in episode.requests if request.observation_tick < event]
    return event - max(asked) if asked else -1


def _stored(bench: Bench, task: str, variant: str) -> Policy:
    name = PolicyName(task, bench.recipe.horizons[0], variant, bench.recipe.seeds[0])
    directory = bench.folder(name) / bench.training(name).path(variant)
    if not is_finished(directory):
        raise FileNotFoundError(f"{directory} holds no finished policy: run the study on {task} first")
    return bench.train(name)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
