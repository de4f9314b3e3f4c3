"""Where a policy comes from: a server, a LeRobot checkpoint, or a policy directory."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig

if TYPE_CHECKING:  # each needs packages that the other does without
    from cerebella.serving.client import RemotePolicy
    from lerobot_policy_cerebella.policy_files import StoredPolicy

TOKEN_VARIABLE = "CEREBELLA_TOKEN"
"""Environment variable with the token that the server asks for; a config would write it into every checkpoint."""


def connect(config: CerebellaConfig) -> "RemotePolicy":
    """The policy behind `config.server_url`; errors as `RemotePolicy`."""
    from cerebella.serving.client import RemotePolicy

    assert config.server_url is not None
    return RemotePolicy(config.server_url, token=os.environ.get(TOKEN_VARIABLE))


def read(config: CerebellaConfig, source: Path | None) -> "StoredPolicy":
    """The policy for this process.

    Args:
        source: the policy's files in a LeRobot checkpoint; None takes `config.pretrained_path`, else `config.policy_path`.
            Only from the last one the weights are read as well.
    """
    files = policy_files()
    if source is None and config.pretrained_path is not None:
        source = files.checkpoint_folder(config.pretrained_path, revision=getattr(config, "pretrained_revision", None))
    if source is not None:
        return files.read(source, "cerebella", config.num_flow_steps, with_weights=False)
    directory = files.policy_directory(config, with_weights=True)
    return files.read(directory, Path(str(config.policy_path)).name, config.num_flow_steps, with_weights=True)


def policy_files() -> Any:
    """The module `policy_files`, or an ImportError that says what to do in an environment that cannot run the model."""
    try:
        from lerobot_policy_cerebella import policy_files
    except ImportError as error:
        raise ImportError(
            f"this environment cannot run a cerebella model ({error}). That needs transformers>=5.23, which LeRobot 0.6 on Python "
            "3.12 admits (without its extra transformers-dep), and LeRobot 0.4 does not. Or start `cerebella serve POLICY` in an "
            "environment of its own, and give --policy.server_url=ws://127.0.0.1:8000 here"
        ) from error
    return policy_files
