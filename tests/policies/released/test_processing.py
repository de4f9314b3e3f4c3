"""The released processor: its methods about actions, its image sizes, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from cerebella.policies.released.processing import MiBotProcessor
from cerebella.processing.prompt import robot_prompt

from ..released_directory import write_released_directory

ROBOTS = {"libero_all": 10, "bridge_delta": 4}
IMAGE = Image.new("RGB", (64, 64))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released_directory(tmp_path_factory.mktemp("released") / "xr0-tiny", ROBOTS)


@pytest.fixture(scope="module")
def processor(directory: Path) -> MiBotProcessor:
    return AutoProcessor.from_pretrained(directory)


def test_masks_and_actions_follow_the_statistics(directory: Path, processor: MiBotProcessor) -> None:
    stored = json.loads((directory / "preprocessor_config.json").read_text())["action_config"]
    assert processor.list_robot_types() == list(ROBOTS)
    for robot_type, horizon in ROBOTS.items():
        mean, std = (np.asarray(stored[robot_type][name]) for name in ("mean", "std"))
        mask = processor.get_action_mask(robot_type, batch_size=2)
        assert (mask.shape, mask.dtype) == ((2, horizon, 32), torch.float32)
        np.testing.assert_array_equal(mask[1], std > 1e-5)
        actions = torch.randn(2, horizon, 32, dtype=torch.bfloat16)
        decoded = processor.decode_action(actions, robot_type=robot_type)
        np.testing.assert_allclose(decoded, actions.float().numpy() * std + mean, rtol=1e-6, atol=1e-6)


def test_an_unknown_robot_type_lists_the_known_ones(processor: MiBotProcessor) -> None:
    for call in (processor.get_action_mask, lambda name: processor.decode_action(torch.zeros(1, 10, 32), name)):
        with pytest.raises(
            ValueError, match="unknown robot type 'franka'; known robot types: libero_all, bridge_delta"
        ):
            call("franka")


def test_actions_of_another_horizon_are_refused(processor: MiBotProcessor) -> None:
    with pytest.raises(ValueError, match=r"must be float\[B, 4, 32\]; got \[1, 10, 32\]"):
        processor.decode_action(torch.zeros(1, 10, 32), "bridge_delta")


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_a_wrong_number_of_images_is_refused(processor: MiBotProcessor, num_images: int) -> None:
    prompt = robot_prompt(["base", "left_wrist"], "Pick it.")
    with pytest.raises(ValueError, match=rf"the prompt has 2 places for images .*; got {num_images} images"):
        processor(text=[prompt], images=[IMAGE] * num_images or None, return_tensors="pt")


def test_videos_are_refused(processor: MiBotProcessor) -> None:
    with pytest.raises(ValueError, match="takes images only; got videos"):
        processor(text=[robot_prompt([], "Pick it.")], videos=[[IMAGE]])


def test_prompts_of_different_length_are_padded_on_the_right(processor: MiBotProcessor) -> None:
    prompts = [robot_prompt(["base"], task) for task in ("Pick it.", "Pick the red block and put it into the box.")]
    inputs = processor(text=prompts, images=[IMAGE, IMAGE], padding=True, return_tensors="pt")
    assert inputs["attention_mask"][0].tolist() == sorted(inputs["attention_mask"][0].tolist(), reverse=True)
    assert not bool(inputs["attention_mask"].all())


def test_images_are_sized_as_the_checkpoint_says(tmp_path: Path) -> None:
    directory = write_released_directory(tmp_path / "larger", min_pixels=96 * 96)
    inputs = AutoProcessor.from_pretrained(directory)(
        text=[robot_prompt(["base"], "x")], images=[IMAGE], return_tensors="pt"
    )
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 6]]


@pytest.mark.parametrize("name", ["MiBotProcessor", "MiBoTProcessor"])
def test_both_spellings_of_the_class_are_met(tmp_path: Path, name: str) -> None:
    directory = write_released_directory(tmp_path / "spelled", processor_class=name)
    assert AutoProcessor.from_pretrained(directory, trust_remote_code=True).list_robot_types() == ["libero_all"]


def test_the_chat_template_travels(processor: MiBotProcessor, tmp_path: Path) -> None:
    conversation = [{"role": "user", "content": "hello"}]
    assert processor.apply_chat_template(conversation) == "hello"
    processor.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).apply_chat_template(conversation) == "hello"


@pytest.mark.parametrize(
    ("action_config", "said"),
    [
        (None, r"action_config .* is missing or empty"),
        ({"a": {"mean": [[0.0]]}}, r"action_config\['a'\] must have a mean and a std"),
        ({"a": {"mean": [[0.0]], "std": [["x"]]}}, "must be arrays of numbers"),
        ({"a": {"mean": [[0.0, 1.0]], "std": [[1.0]]}}, r"of one shape \[H, A\]; got \[1, 2\] and \[1, 1\]"),
        ({"a": {"mean": [[float("nan")]], "std": [[1.0]]}}, "must be finite"),
    ],
)
def test_damaged_statistics_are_explained(directory: Path, tmp_path: Path, action_config: object, said: str) -> None:
    write_released_directory(tmp_path / "damaged")
    path = tmp_path / "damaged" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"action_config": action_config}))
    with pytest.raises(ValueError, match=said) as error:
        AutoProcessor.from_pretrained(tmp_path / "damaged")
    assert str(path) in str(error.value)


def test_an_unknown_option_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match="does not support min_pixels; supported: revision, token"):
        AutoProcessor.from_pretrained(directory, min_pixels=5)


def test_every_prompt_needs_its_own_pictures(processor: MiBotProcessor) -> None:
    place, picture = processor.image_token, Image.new("RGB", (64, 64))
    with pytest.raises(ValueError, match=r"the prompts have \[1, 3\] places for images .* got \[2, 2\] images"):
        processor(text=[place, place * 3], images=[[picture, picture], [picture, picture]], padding=True)


@pytest.mark.parametrize("images", ["a.png", ["a.png"], np.zeros((2, 64, 64, 3), dtype=np.uint8), (i for i in [1])])
def test_what_is_no_picture_is_refused(processor: MiBotProcessor, images: object) -> None:
    with pytest.raises(ValueError, match="images must be PIL images or arrays"):
        processor(text=[processor.image_token], images=images)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_tokenizer_is_named(directory: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(directory, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        MiBotProcessor.from_pretrained(tmp_path / "copy")
