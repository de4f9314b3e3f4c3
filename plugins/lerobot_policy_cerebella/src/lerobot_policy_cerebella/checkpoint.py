"""A LeRobot checkpoint of a policy directory, or of a server: what `--policy.path` wants, without training in LeRobot.

python -m lerobot_policy_cerebella.checkpoint --output_dir=CHECKPOINT --policy.type=cerebella \\
    --policy.policy_path=POLICY --policy.views='{"front": "base"}'
"""

from dataclasses import dataclass
from pathlib import Path

from lerobot.configs import parser
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from lerobot.utils.import_utils import register_third_party_plugins

from cerebella.embodiment import Embodiment
from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig
from lerobot_policy_cerebella.modeling_cerebella import CerebellaPolicy
from lerobot_policy_cerebella.processor_cerebella import make_cerebella_pre_post_processors
from lerobot_policy_cerebella.sources import connect, policy_files


@dataclass
class CheckpointConfig:
    """What to write where.

    Args:
        policy: of the type `cerebella`, with the names of the robot's entries where they are not the embodiment's.
        output_dir: must not exist. image_height, image_width: of the robot's cameras, in pixels.
    """

    policy: PreTrainedConfig
    output_dir: Path
    image_height: int = 480
    image_width: int = 640


def write_checkpoint(config: CerebellaConfig, directory: Path, image_size: tuple[int, int]) -> CerebellaPolicy:
    """Write the checkpoint with its pipelines, and return the policy.

    Names of entries that the config leaves out are those of the embodiment, cameras those of its views.

    Args:
        image_size: height and width of the robot's cameras, in pixels.

    Raises:
        FileExistsError: the directory exists. ValueError: names, units or views do not fit.
    """
    if directory.exists():
        raise FileExistsError(f"{directory} exists")
    fill_in(config, embodiment_of(config), image_size)
    policy = CerebellaPolicy(config)
    policy.save_pretrained(directory)
    for pipeline in make_cerebella_pre_post_processors(policy.config):
        pipeline.save_pretrained(directory)
    return policy


def fill_in(config: CerebellaConfig, embodiment: Embodiment, image_size: tuple[int, int]) -> None:
    """Give the config the features of a robot whose entries and cameras are called as in the embodiment, or as it says."""
    config.state_feature_names = config.state_feature_names or [d.name for d in embodiment.states]
    config.action_feature_names = config.action_feature_names or [d.name for d in embodiment.actions]
    cameras = [name.removeprefix(f"{OBS_IMAGES}.") for name in config.views] or list(embodiment.views)
    config.input_features = {
        OBS_STATE: PolicyFeature(FeatureType.STATE, (len(config.state_feature_names),)),
        **{f"{OBS_IMAGES}.{name}": PolicyFeature(FeatureType.VISUAL, (3, *image_size)) for name in cameras},
    }
    config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (len(config.action_feature_names),))}


def embodiment_of(config: CerebellaConfig) -> Embodiment:
    """The embodiment of the policy that the config names."""
    if config.server_url is not None:
        with connect(config) as remote:
            return remote.metadata.embodiment
    return Embodiment.load(policy_files().policy_directory(config, with_weights=False) / "embodiment.json")


def main() -> None:
    """The command."""
    register_third_party_plugins()
    parser.wrap()(_write)()  # pyright: ignore[reportCallIssue] - LeRobot makes the argument from the command line


def _write(options: CheckpointConfig) -> None:
    if not isinstance(options.policy, CerebellaConfig):
        raise ValueError(f"--policy.type is {options.policy.type!r}; this command knows 'cerebella'")
    write_checkpoint(options.policy, options.output_dir, (options.image_height, options.image_width))
    print(options.output_dir)


if __name__ == "__main__":
    main()
