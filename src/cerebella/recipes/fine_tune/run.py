"""Any stage of the paper on one's own data: data sets in, a policy directory out. Resumes by itself.

    check everything --> summary --> tokenizer, statistics --> training --> policy directory

All that a run makes lies in `<out>/run/` until the policy is finished. Under torchrun every process calls `fine_tune`; the
first one prints and writes.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from cerebella.data.sources import RobotGroup
from cerebella.models.choice import ChoiceHeads
from cerebella.models.vla import VLA, build
from cerebella.policies.stored import as_device
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.processor import Processor
from cerebella.recipes.fine_tune.checks import FACTS
from cerebella.recipes.fine_tune.options import FineTune, PretrainBrain
from cerebella.recipes.fine_tune.plan import Plan, claim, make_plan
from cerebella.recipes.fine_tune.processors import (
    get_statistics,
    get_tokenizer,
    held_out_batches,
    make_processors,
    save_other_robots,
)
from cerebella.recipes.fine_tune.report import describe, fault_lines, model_card, summary
from cerebella.recipes.policy_files import save_run, stage_records
from cerebella.training.checkpoint import export_full
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.mixed_source import MixedSource
from cerebella.training.objectives import model_of, trained_modules
from cerebella.training.parallel import TrainedModules, World, start_world, stop_world


def fine_tune(options: FineTune) -> list[Path]:
    """Run a stage, or continue it where it stopped; returns the paths that this process wrote.

    Everything is checked before the first step, and the plan printed. The same options give the same policy, bit for bit
    on a CPU, however often the run is stopped.

    Raises:
        FileNotFoundError: start, data or embodiment is not there. DataFault: data that cannot be read. ValueError: options
            that cannot be, data that do not fit, or a run in the same place that was begun with others.
        FloatingPointError: the loss is no number any more.
    """
    world = _join(options.device)
    try:
        plan = make_plan(options, world)
        if world.is_main:
            claim(plan)
            print(summary(plan), flush=True)
        return _train(plan)
    finally:
        stop_world(world)


def _join(device: str) -> World:
    """All processes of torchrun, or this one on the device that was asked for."""
    world = start_world()
    if world.size == 1:
        return replace(world, device=as_device(device))
    if device not in ("auto", world.device.type):
        stop_world(world)
        raise ValueError(
            f"--device {device}: under torchrun every process takes its own {world.device.type}; leave it out"
        )
    return world


def _train(plan: Plan) -> list[Path]:
    options, start, world = plan.options, plan.start, plan.world
    run, shows_progress = options.out / "run", options.show_progress and world.is_main
    tokenizer = get_tokenizer(start, plan.sets, plan.talk, options.on_fault, run, world)
    statistics = get_statistics(start, plan.sets, plan.options.statistics == "keep", run, world, shows_progress)
    processors = make_processors(start, plan.sets, tokenizer, statistics)
    modules = _modules(plan)
    source = MixedSource(
        plan.spec,
        processors,
        ConversationProcessor(tokenizer, start.images) if plan.talk else None,
        options.num_workers,
        options.on_fault,
    )
    held_out = held_out_batches(plan.sets, processors, options.on_fault) if options.validate_every else []
    try:
        is_finished = run_stages(modules, [source], [plan.stage], _loop(options, run, shows_progress), held_out, world)
    finally:
        source.close()
    if world.is_main and (lines := fault_lines(source.report)):
        print("\n".join(lines))
    if is_finished:
        return _finish(plan, processors, modules, run)
    return [path for path in (run / "checkpoints", run / "curves.jsonl") if path.exists() and world.is_main]


def _modules(plan: Plan) -> TrainedModules:
    """The model with the start's weights, and the heads that its stage throws away at the end."""
    options, start = plan.options, plan.start
    torch.manual_seed(options.seed)
    model = start.model(torch.bfloat16 if options.precision == "pure_bfloat16" else torch.float32)
    if plan.world.device.type == "cpu":
        # The same attention written out: its backward pass is much cheaper on a CPU at these lengths than the fused one.
        model.brain.set_attn_implementation("eager")
    choice = ChoiceHeads(start.config, options.num_candidates) if isinstance(options, PretrainBrain) else None
    return trained_modules(model, choice=choice)


def _loop(options: FineTune, run: Path, shows_progress: bool) -> LoopConfig:
    return LoopConfig(
        directory=run,
        seed=options.seed,
        precision=options.precision,
        save_every=options.save_every,
        log_every=options.log_every,
        stop_after=options.stop_after,
        num_micro_batches=options.num_micro_batches,
        recompute=options.recompute,
        lora_rank=options.lora_rank,
        validate_every=options.validate_every,
        logs=options.logs,
        show_progress=shows_progress,
    )


def _finish(plan: Plan, processors: dict[RobotGroup, Processor], modules: TrainedModules, run: Path) -> list[Path]:
    """The policy directory; then the run's checkpoints go. What TensorBoard wrote stays."""
    model = _whole(plan, modules)
    if model is None:
        return []
    out, history = plan.options.out, [*plan.start.history, *stage_records(plan.start.config, [plan.stage])]
    main, *others = (processors[group] for group in dict.fromkeys(one.group for one in plan.sets))
    paths = save_run(out, run, model, main, history, describe(plan), model_card(plan, history))
    save_other_robots(out, others)
    (run / FACTS).unlink()  # first of all: from here on the run is finished, whenever it is killed
    for path in run.iterdir():
        if path.is_file():
            path.unlink()
        elif path.name != "tensorboard":
            shutil.rmtree(path)
    if any(run.iterdir()):
        return [*paths, run / "tensorboard"]
    run.rmdir()
    return paths


def _whole(plan: Plan, modules: TrainedModules) -> VLA | None:
    """The model in one piece, on the first process; None on the others."""
    if plan.world.size == 1:
        return model_of(modules)
    state = export_full(modules)
    if not plan.world.is_main:
        return None
    model = build(plan.start.config, next(model_of(modules).parameters()).dtype)
    model.load_state_dict({name.removeprefix("model."): t for name, t in state.items() if name.startswith("model.")})
    return model
