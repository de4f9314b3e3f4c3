"""`cerebella info`: what a preset, a policy or a released checkpoint is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cerebella.cli.errors import closest
from cerebella.cli.output import check_json, write_json


@dataclass(frozen=True)
class Info:
    """Parameters per part, attention rule, embodiment and statistics of a preset or a policy.

    Of a released checkpoint: its robot types, with horizon and views of each. Its weights are not read, and not
    downloaded.
    """

    source: Annotated[Positional[str], arg(metavar="PRESET|DIR|HUB_ID")]
    """a preset (micro, nano, tiny, small, xr0), a policy directory, a released directory, or owner/name on a hub"""
    revision: str | None = None
    """branch, tag or commit on the hub"""
    json: Path | None = None
    """write the same as JSON to this file"""

    def run(self) -> int:
        """Print a table."""
        check_json(self.json)
        facts = _facts_of(self.source, self.revision)
        for name, value in facts.items():
            if isinstance(value, dict):
                print(name)
                for part, number in value.items():
                    print(f"  {part:<34} {_readable(number):>16}")
            else:
                print(f"{name:<36} {_readable(value)}")
        write_json(self.json, facts)
        return 0


def _facts_of(source: str, revision: str | None) -> dict[str, Any]:
    """Flat facts, and tables of parameters or robot types."""
    from cerebella.models.config import PRESETS, preset

    if source in PRESETS and revision is None:
        return _model_facts(preset(source))
    if "/" not in source and not Path(source).exists():
        if source in PRESETS:
            raise ValueError(f"{source} is a preset; a revision ({revision!r}) exists only on a hub")
        hint = closest(source, PRESETS)
        raise ValueError(f"{source!r} is neither a preset nor a directory.{hint} Presets: {', '.join(PRESETS)}")
    from cerebella.policies.hub import fetch
    from cerebella.policies.layout import layout_of

    folder = fetch(source, revision, weights=False)
    if layout_of(folder) == "released":
        return _released_facts(folder)
    return _policy_facts(fetch(source, revision))


def _policy_facts(folder: Path) -> dict[str, Any]:
    """Loads the policy, so that a damaged one is found out."""
    from cerebella.models.config import ModelConfig
    from cerebella.policies import load_policy

    metadata = load_policy(folder).metadata
    stored = json.loads((folder / "config.json").read_text())
    robot = metadata.embodiment
    return {
        "policy": metadata.policy_id,
        **_model_facts(ModelConfig.from_json(json.dumps(stored["model"]))),
        "stages": ", ".join(f"{stage['name']} ({stage['num_steps']} steps)" for stage in stored["stages"]),
        "longest trained action prefix": f"{metadata.max_trained_prefix} rows",
        "embodiment": f"{robot.name}, {robot.control_mode}, {robot.control_hz:g} Hz",
        "views": ", ".join(robot.views) or "none",
        "state": ", ".join(f"{dimension.name} [{dimension.unit}]" for dimension in robot.states),
        "action": ", ".join(f"{dimension.name} [{dimension.unit}]" for dimension in robot.actions),
        "statistics": metadata.statistics_hash,
    }


def _released_facts(folder: Path) -> dict[str, Any]:
    """From the JSON files alone. The horizon is each robot type's own: the length of its statistics."""
    from cerebella.embodiment import read_json_object
    from cerebella.models.published import read_released_config
    from cerebella.released_robots import RELEASED_ROBOTS, released_embodiment

    facts = _model_facts(read_released_config(folder))
    del facts["horizon"]
    path = folder / "preprocessor_config.json"
    action_config = read_json_object(path).get("action_config")
    if not isinstance(action_config, dict):
        raise ValueError(f"{path}: action_config is missing; it holds mean and std of every robot type")
    robots = {}
    for name, statistics in action_config.items():
        rows = statistics.get("mean") if isinstance(statistics, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"{path}: action_config[{name!r}] has no mean; a list of rows is needed")
        views = ", ".join(released_embodiment(name).views) if name in RELEASED_ROBOTS else "views: give an embodiment"
        robots[name] = f"{len(rows)} rows; {views}"
    return {"layout": "released (mibot)", **facts, "robot types": robots}


def _model_facts(config: Any) -> dict[str, Any]:
    from cerebella.models.vla import parameter_table

    table = parameter_table(config)
    window = f", window of {config.mask_window} rows" if config.mask_variant in ("band", "lambda") else ""
    return {
        "model": config.name,
        "parameters": {
            **table.parts,
            "brain": table.brain,
            "cerebellum": table.cerebellum,
            "total": table.total,
        },
        "tensors on the cerebellum's side": table.num_cerebellum_tensors,
        "attention rule": config.mask_variant + window,
        "position offset of noisy rows": config.position_offset,
        "horizon": f"{config.horizon} rows",
        "model_state_dim": config.state_dim,
        "model_action_dim": config.action_dim,
        "flow steps": config.num_flow_steps,
    }


def _readable(value: object) -> str:
    """Numbers in groups of three digits."""
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
