"""Policies travel to a hub and back through the real client, against a hub in this process."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cerebella.policies import hub as hub_module
from cerebella.policies import load_policy
from cerebella.policies.directory import REQUIRED_FILES as LOADED_FILES
from cerebella.policies.hub import fetch, push
from cerebella.policies.layout import REQUIRED_FILES, publishable_files
from cerebella.types import Observation

from .local_hub import TOKEN, LocalHub

SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"
NAME = "someone/conveyor-micro"
NO_PREFIX = np.zeros((0, 3), dtype=np.float32)
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # the client's own upload


@pytest.fixture(autouse=True)
def clean_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no stored login, no Xet storage (it needs a server of its own), whatever the machine has."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        yield running


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The released file set in two shards, with one number in each."""
    directory = tmp_path / "released"
    directory.mkdir()
    shards = {f"model-0000{i}-of-00002.safetensors": f"tensor_{i}" for i in (1, 2)}
    for name, tensor in shards.items():
        save_file({tensor: np.ones(1, dtype=np.float32)}, directory / name)
    contents = {
        "config.json": {"model_type": "mibot"},
        "model.safetensors.index.json": {"weight_map": {tensor: name for name, tensor in shards.items()}},
        "preprocessor_config.json": {"action_config": {}},
        "tokenizer.json": {},
        "tokenizer_config.json": {},
    }
    for name, content in contents.items():
        (directory / name).write_text(json.dumps(content))
    (directory / "merges.txt").write_text("a b\n")
    return directory


def contents_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_policy_goes_up_and_comes_back(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit with every file; another machine gets what it needs, byte for byte, and acts the same."""
    address = push(SHIPPED, NAME, message="first", endpoint=hub.endpoint, token=TOKEN)
    repository = hub.repositories[NAME]
    assert address == f"{hub.endpoint}/{NAME}/commit/{repository.branches['main']}"
    assert repository.messages[-1] == "first"
    stored = dict(repository.files("main")[1])
    assert stored.pop(".gitattributes") == b""
    assert stored == contents_of(SHIPPED)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other-machine"))
    here = fetch(NAME, endpoint=hub.endpoint)
    assert tmp_path / "other-machine" in here.parents
    assert contents_of(here) == {name: data for name, data in stored.items() if not name.startswith("curves.")}
    observation = Observation(
        images={"base": np.full((128, 128, 3), 90, dtype=np.uint8)},
        state=np.full(4, 0.2, dtype=np.float32),
        prompt="pick the red part",
        tick=3,
        timestamp_s=0.0,
    )
    ours, theirs = (load_policy(folder).infer(observation, NO_PREFIX) for folder in (SHIPPED, here))
    np.testing.assert_array_equal(ours.actions, theirs.actions)


def test_a_second_fetch_downloads_nothing(hub: LocalHub, released: Path) -> None:
    push(released, NAME, endpoint=hub.endpoint, token=TOKEN)
    first = fetch(NAME, endpoint=hub.endpoint)
    hub.requests.clear()
    assert fetch(NAME, endpoint=hub.endpoint) == first
    assert not any("/resolve/" in request for request in hub.requests)


def test_another_cache_and_no_question_to_the_hub(hub: LocalHub, released: Path, tmp_path: Path) -> None:
    hub.add(NAME, contents_of(released))
    own = tmp_path / "own cache"
    with pytest.raises((FileNotFoundError, ConnectionError), match="no directory"):
        fetch(NAME, endpoint=hub.endpoint, cache_dir=own, local_files_only=True)
    first = fetch(NAME, endpoint=hub.endpoint, cache_dir=own)
    assert own in first.parents
    hub.requests.clear()
    assert fetch(NAME, endpoint=hub.endpoint, cache_dir=own, local_files_only=True) == first
    assert hub.requests == []


def test_a_look_leaves_the_weights_where_they_are(hub: LocalHub, released: Path) -> None:
    hub.add(NAME, contents_of(released))
    look = contents_of(fetch(NAME, endpoint=hub.endpoint, weights=False))
    assert look == {name: data for name, data in contents_of(released).items() if not name.endswith(".safetensors")}
    assert contents_of(fetch(NAME, endpoint=hub.endpoint)) == contents_of(released)


def test_without_connection_the_cache_serves_and_says_so(
    hub: LocalHub, released: Path, caplog: pytest.LogCaptureFixture
) -> None:
    push(released, NAME, endpoint=hub.endpoint, token=TOKEN)
    with LocalHub() as gone:
        gone.repositories = hub.repositories
        first = fetch(NAME, endpoint=gone.endpoint)
    logging.getLogger("huggingface_hub").addHandler(caplog.handler)
    try:
        assert fetch(NAME, endpoint=gone.endpoint) == first
    finally:
        logging.getLogger("huggingface_hub").removeHandler(caplog.handler)
    assert "Could not reach the Hub" in caplog.text


def test_a_new_version_replaces_the_weights_of_the_old_one(hub: LocalHub, released: Path, tmp_path: Path) -> None:
    """Shards of the first upload do not survive beside the single file of the second; a README does."""
    (released / "README.md").write_text("how it was made")
    push(released, NAME, endpoint=hub.endpoint, token=TOKEN)
    smaller = tmp_path / "smaller"
    shutil.copytree(released, smaller)
    for path in [*smaller.glob("model*"), smaller / "README.md"]:
        path.unlink()
    save_file({"tensor": np.ones(1, dtype=np.float32)}, smaller / "model.safetensors")
    push(smaller, NAME, endpoint=hub.endpoint, token=TOKEN)
    names = set(hub.repositories[NAME].files("main")[1]) - {".gitattributes"}
    assert names == {path.name for path in smaller.iterdir()} | {"README.md"}


def test_a_branch_is_made_filled_and_read(hub: LocalHub, released: Path) -> None:
    push(released, NAME, revision="candidate", endpoint=hub.endpoint, token=TOKEN)
    assert set(hub.repositories[NAME].files("main")[1]) == {".gitattributes"}
    here = fetch(NAME, revision="candidate", endpoint=hub.endpoint)
    assert contents_of(here) == contents_of(released)
    with pytest.raises(ValueError, match=r"has no revision 'candidat' \(branch, tag, commit\)"):
        fetch(NAME, revision="candidat", endpoint=hub.endpoint)


def test_a_private_repository_needs_the_login(hub: LocalHub, released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(released, NAME, private=True, endpoint=hub.endpoint, token=TOKEN)
    assert hub.repositories[NAME].is_private
    with pytest.raises(
        FileNotFoundError, match=r"has no repository of that name that you may see\. If it is private, log in"
    ):
        fetch(NAME, endpoint=hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert contents_of(fetch(NAME, endpoint=hub.endpoint)) == contents_of(released)


def test_nothing_becomes_public_by_mistake(hub: LocalHub, released: Path) -> None:
    before = dict(hub.add(NAME, {"README.md": b"public"}).branches)
    with pytest.raises(ValueError, match=r"exists already and is public; private=True cannot hide it"):
        push(released, NAME, private=True, endpoint=hub.endpoint, token=TOKEN)
    assert hub.repositories[NAME].branches == before


def test_programs_and_pickles_stay_where_they_are(hub: LocalHub, released: Path) -> None:
    strangers = {"modeling_mibot.py": b"raise SystemExit", "weights.bin": b"pickle", "nested/config.json": b"{}"}
    hub.add(NAME, contents_of(released) | strangers)
    assert contents_of(fetch(NAME, endpoint=hub.endpoint)) == contents_of(released)
    assert not any(name in request for name in strangers for request in hub.requests)


def test_a_repository_without_safetensors_is_no_model(hub: LocalHub) -> None:
    hub.add(NAME, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(FileNotFoundError, match=r"holds no model: config\.json and \*\.safetensors are needed"):
        fetch(NAME, endpoint=hub.endpoint)


def test_a_gated_repository_says_where_to_ask(hub: LocalHub, released: Path) -> None:
    hub.add(NAME, contents_of(released), is_gated=True)
    with pytest.raises(PermissionError, match=rf"{NAME} is gated; ask for access at .*/{NAME}, then log in"):
        fetch(NAME, endpoint=hub.endpoint)
    assert contents_of(fetch(NAME, endpoint=hub.endpoint, token=TOKEN)) == contents_of(released)


def test_a_typo_is_met_with_the_released_names(hub: LocalHub) -> None:
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'XiaomiRobotics/Xiaomi-Robotics-0-LIBERO'\?"):
        fetch("XiaomiRobotics/Xiaomi-Robotics-0-Libero", endpoint=hub.endpoint)
    with pytest.raises(FileNotFoundError, match=r"there is no directory 'no/such' here, nor .* no repository of that"):
        fetch("no/such", endpoint=hub.endpoint)


def test_a_typo_is_met_with_the_directories_beside_it(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policies" / "conveyor-micro").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'policies/conveyor-micro'\?"):
        fetch("policies/conveyor-mirco", endpoint=hub.endpoint)
    hub.requests.clear()
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'policies/conveyor-micro'\?"):
        fetch("./policies/conveyor-mirco", endpoint=hub.endpoint)
    assert not hub.requests


def test_out_of_reach(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalHub() as stopped:
        pass

    def try_both(reason: str) -> None:
        with pytest.raises(ConnectionError, match=rf"no directory .*, nor a copy in the cache .*, and {reason}"):
            fetch(NAME, endpoint=stopped.endpoint)
        with pytest.raises(ConnectionError, match=rf"^{NAME} was not uploaded, and {reason}"):
            push(released, NAME, endpoint=stopped.endpoint, token=TOKEN)

    try_both(f"{stopped.endpoint} is out of reach")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    try_both(f"{stopped.endpoint} is out of reach: .*HF_HUB_OFFLINE")


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_pushing_needs_the_right_to_write(hub: LocalHub, released: Path, token: str | None) -> None:
    with pytest.raises(
        PermissionError, match=r"not uploaded: .* refuses access \(HTTP 401\); log in with `hf auth login`"
    ):
        push(released, NAME, endpoint=hub.endpoint, token=token)
    assert not hub.repositories


def test_a_directory_comes_back_as_it_is(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one whose name could be a repository's."""
    (tmp_path / "someone" / "policy").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert fetch(tmp_path, endpoint=hub.endpoint) == tmp_path
    assert fetch("someone/policy", endpoint=hub.endpoint) == Path("someone/policy")
    with pytest.raises(ValueError, match=r"a revision .* exists only on a hub"):
        fetch("someone/policy", revision="main", endpoint=hub.endpoint)
    (tmp_path / "someone" / "file").touch()
    with pytest.raises(ValueError, match="someone/file is a file; give the directory"):
        fetch("someone/file", endpoint=hub.endpoint)
    assert not hub.requests


WORD = st.text("abc._-", min_size=1, max_size=4)


@given(
    WORD.map("./{}".format)
    | WORD.map("../{}".format)
    | WORD.map("~/{}".format)
    | WORD.map("/{}".format)
    | WORD.map("runs\\{}".format)
    | st.lists(WORD, min_size=3, max_size=5).map("/".join)
    | WORD
)
def test_what_looks_like_a_path_is_never_sent(path: str) -> None:
    """Nothing listens at this address: an attempt to send would end as a ConnectionError."""
    source = f"{path}-no-such"
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        fetch(source, endpoint="http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        fetch(Path("someone/policy"), endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["someone/", "some one/policy", "a--b/c", "someone/x.git", "someone/" + "x" * 100])
def test_names_that_cannot_exist_are_not_sent(name: str, hub: LocalHub, released: Path) -> None:
    with pytest.raises(ValueError, match=r"is no name on a hub \(owner/name\)"):
        push(released, name, endpoint=hub.endpoint, token=TOKEN)
    assert not hub.requests


def test_an_incomplete_or_foreign_directory_is_refused_before_the_upload(hub: LocalHub, released: Path) -> None:
    def refuse(error: type[Exception], reason: str) -> None:
        with pytest.raises(error, match=reason):
            push(released, NAME, endpoint=hub.endpoint, token=TOKEN)

    shard, index = released / "model-00002-of-00002.safetensors", released / "model.safetensors.index.json"
    good = contents_of(released)
    (released / ".env").write_text("SECRET=1")
    (released / "checkpoints").mkdir()
    refuse(ValueError, r"what is not part of a policy: \.env, checkpoints\. Move it")
    (released / ".env").unlink()
    (released / "checkpoints").rmdir()
    shard.write_bytes(good[shard.name][:-2])
    refuse(ValueError, "00002-of-00002.safetensors is damaged")
    save_file({"other": np.ones(1, dtype=np.float32)}, shard)
    refuse(ValueError, r'disagree about \["other", "tensor_2"\]')
    shard.unlink()
    refuse(FileNotFoundError, "model-00002-of-00002.safetensors is missing")
    shard.write_bytes(good[shard.name])
    save_file({"third": np.ones(1, dtype=np.float32)}, released / "model.safetensors")
    refuse(ValueError, r"does not name model\.safetensors; weights must be stored once")
    (released / "model.safetensors").unlink()
    index.write_text("{}")
    refuse(ValueError, "weight_map is missing or empty")
    index.unlink()
    refuse(FileNotFoundError, r"need model\.safetensors, or shards with model\.safetensors\.index\.json")
    index.write_bytes(good[index.name])
    (released / "tokenizer.json").unlink()
    refuse(FileNotFoundError, "tokenizer.json is missing")
    (released / "config.json").write_text('{"model_type": "qwen3_vl"}')
    refuse(ValueError, "model_type is 'qwen3_vl'")
    (released / "config.json").unlink()
    refuse(FileNotFoundError, "config.json is missing")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        push(released / "no-such", NAME, endpoint=hub.endpoint, token=TOKEN)
    assert not hub.requests


def test_published_files_are_those_that_loading_needs() -> None:
    assert set(LOADED_FILES) == set(REQUIRED_FILES["policy"])
    assert publishable_files(SHIPPED) == sorted(path.name for path in SHIPPED.iterdir())


def test_the_environment_decides_where_from(hub: LocalHub, released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint the client's own counts, which it reads from HF_ENDPOINT when it is imported."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert push(released, NAME).startswith(hub.endpoint)
    here = fetch(NAME)
    assert here.is_relative_to(constants.HF_HUB_CACHE)
    assert contents_of(here) == contents_of(released)


def test_the_released_names_can_exist() -> None:
    assert len(set(hub_module.RELEASED)) == 6
    for name in hub_module.RELEASED:
        hub_module._check_name(name)
