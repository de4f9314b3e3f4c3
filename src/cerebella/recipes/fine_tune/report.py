"""What a run on one's own data says about itself: before it starts, in `recipe.json`, and on the policy's card."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cerebella.data.loader import FaultReport
from cerebella.models.vla import parameter_table
from cerebella.policies.directory import StageRecord
from cerebella.recipes.fine_tune.plan import Plan

_NOT_RECORDED = ("out", "stop_after", "show_progress", "device", "num_workers")
_MOST_FAULTS = 10


def summary(plan: Plan) -> str:
    """Everything that a person should look at before a long run, as text."""
    start, stage, config = plan.start, plan.stage, plan.start.config
    rule = f"attention rule {config.mask_variant}, offset {config.position_offset}"
    if not start.says_rule:
        rule += " (the checkpoint does not say its own)"
    lines = [
        f"{plan.options.recipe} from {start.source}: {parameter_table(config).total / 1e6:.1f} M parameters, horizon "
        f"{config.horizon}, {rule}",
        f"trains {', '.join(stage.trains)} on {plan.world.size} x {plan.world.device}: {stage.num_steps} steps of "
        f"{stage.batch_size} windows{_talk(plan)}",
        f"statistics: {_statistics(plan)}",
        "",
        *_table(plan),
    ]
    for one in plan.sets:
        lines += [f"{one.source.name}: {notice}" for notice in one.notices]
        lines += [f"{one.source.name}: does not record the action {name!r}" for name in one.missing_actions]
        lines += [f"{one.source.name}: left out: {fault}" for fault in one.faults[:_MOST_FAULTS]]
        if len(one.faults) > _MOST_FAULTS:
            lines.append(f"{one.source.name}: and {len(one.faults) - _MOST_FAULTS} more faults")
    return "\n".join(lines)


def fault_lines(report: FaultReport) -> list[str]:
    """What the loader left out during the run; empty if nothing."""
    if not report.num_skipped:
        return []
    faults = [f"  {fault}" for fault in list(report.faults)[:_MOST_FAULTS]]
    return [f"{report.num_skipped} windows could not be read; others took their places:", *faults]


def describe(plan: Plan) -> dict[str, Any]:
    """For `recipe.json`: options, the stage that came of them, and the data."""
    options = {name: value for name, value in asdict(plan.options).items() if name not in _NOT_RECORDED}
    return {
        "recipe": plan.options.recipe,
        "options": json.loads(json.dumps(options, default=str)),
        "stage": asdict(plan.stage),
        "data": {one.source.name: one.sizes for one in plan.sets},
        "conversations": {source.name: len(source.windows) for source in plan.talk},
        "mixture": plan.mixture.fingerprint,
    }


def model_card(plan: Plan, history: Sequence[StageRecord]) -> str:
    """What the policy directory's README says."""
    config, robot = plan.start.config, plan.sets[0].embodiment
    sets = "\n".join(
        f"| {one.source.name} | {'/'.join(one.group)} | {one.num_episodes} | {one.num_held_out} | {len(one.source.windows)} |"
        for one in plan.sets
    )
    talk = "\n".join(f"| {source.name} | conversations | | | {len(source.windows)} |" for source in plan.talk)
    stages = "\n".join(
        f"| `{stage.name}` | {stage.num_steps} | {stage.mask_variant} | {stage.max_prefix or 'none'} | {stage.fingerprint} |"
        for stage in history
    )
    pictures = "\n\n![a held-out chunk, true and predicted](chunk-0.png)" if any(s.held_out for s in plan.sets) else ""
    pictures = pictures if plan.options.validate_every else ""
    return f"""# {plan.options.out.name}

A {parameter_table(config).total / 1e6:.1f} M parameter vision-language-action policy (attention rule
`{config.mask_variant}`, horizon {config.horizon}) for the robot `{robot.name}` in the control mode `{robot.control_mode}`,
{robot.policy_hz:g} rows a second, views {", ".join(robot.views) or "none"}. Trained with `cerebella train {plan.options.recipe}`
from `{plan.start.source}`.

| data | robot | episodes | held out | windows |
|---|---|---|---|---|
{sets}{chr(10) + talk if talk else ""}

| stage | steps | attention rule | longest action prefix | settings |
|---|---|---|---|---|
{stages}

![loss curves](curves.png){pictures}

Options and data are in `recipe.json`, losses in `curves.jsonl`, errors on held-out episodes (in spreads of the statistics, per
row of a chunk) in `validation.jsonl`.
"""


def _table(plan: Plan) -> list[str]:
    """One row per data set and source of conversations."""
    heads = (
        "data",
        "robot",
        "episodes",
        "held out",
        "short",
        "frames",
        "frames/s",
        "policy Hz",
        "windows",
        "share",
        "faults",
    )
    rows: list[tuple[str, ...]] = [(*heads, "without")]
    shares = plan.mixture.shares
    for one, share in zip(plan.sets, shares, strict=False):
        counts = (one.num_episodes, one.num_held_out, one.num_short, "-" if one.num_frames is None else one.num_frames)
        rates = ("-" if one.fps is None else f"{one.fps:g}", f"{one.embodiment.policy_hz:g}")
        name, robot = one.source.name, "/".join(one.group)
        last = (len(one.source.windows), f"{share:.1%}", len({fault.episode for fault in one.faults}))
        rows.append((name, robot, *map(str, (*counts, *rates, *last)), ", ".join(one.missing_views) or "-"))
    for source, share in zip(plan.talk, shares[len(plan.sets) :], strict=True):
        rows.append((source.name, "conversations", *["-"] * 6, str(len(source.windows)), f"{share:.1%}", "-", "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    is_text = (0, 1, len(widths) - 1)
    return [
        "  ".join(
            cell.ljust(width) if i in is_text else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _statistics(plan: Plan) -> str:
    if plan.options.statistics == "keep":
        return f"kept from {plan.start.source}"
    known = ["/".join(one.group) for one in plan.sets if plan.start.has_statistics(one.embodiment)]
    hint = f"; the start has its own of {known[0]}, at whose scale --statistics keep goes on" if known else ""
    return f"measured on these data{hint}"


def _talk(plan: Plan) -> str:
    stage, wanted = plan.stage, plan.options.vl_ratio
    if not stage.num_conversations or wanted is None:
        return ""
    given = stage.num_conversations / stage.batch_size
    note = "" if abs(given - wanted) < 0.01 * wanted else f"; --vl-ratio {wanted:g} comes to {given:.4f} in whole rows"
    return f" and {stage.num_conversations} conversations{note}"
