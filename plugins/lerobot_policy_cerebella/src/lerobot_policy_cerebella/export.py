"""A policy directory of a LeRobot checkpoint, for `cerebella serve`, `eval` and `run`.

python -m lerobot_policy_cerebella.export CHECKPOINT POLICY
"""

import argparse
from importlib.metadata import version
from pathlib import Path

from lerobot_policy_cerebella.modeling_cerebella import CerebellaPolicy


def export(checkpoint: str | Path, directory: Path) -> None:
    """Write the policy directory, weights in bfloat16; its history gains one stage if LeRobot trained the policy.

    Raises:
        FileExistsError: the directory exists. FileNotFoundError, ValueError: no checkpoint of a policy in this process.
    """
    if directory.exists():
        raise FileExistsError(f"{directory} exists")
    CerebellaPolicy.from_pretrained(checkpoint).save_policy(directory, f"lerobot {version('lerobot')}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Make a policy directory of a LeRobot checkpoint.")
    parser.add_argument("checkpoint", help="directory, or owner/name on a hub")
    parser.add_argument("directory", type=Path, help="must not exist")
    options = parser.parse_args()
    export(options.checkpoint, options.directory)
    print(options.directory)


if __name__ == "__main__":
    main()
