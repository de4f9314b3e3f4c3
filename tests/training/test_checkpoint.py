"""Checkpoints: the same bits after a resume, and no moment at which a kill costs more than one interval."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cerebella.training.checkpoint import CheckpointStore, export_full

from .distributed.ranks import processes

RUN = {"stages": [{"name": "posttrain_async", "num_steps": 4}], "seed": 0}


def network() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Tied weights, a frozen one, and parameters in two groups."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"embed": nn.Embedding(4, 4), "middle": nn.Linear(4, 4), "head": nn.Linear(4, 4, bias=False)})
    net["head"].register_parameter("weight", net["embed"].get_parameter("weight"))
    net["middle"].get_parameter("bias").requires_grad_(False)
    groups = [{"params": [net["embed"].weight], "weight_decay": 0.0}, {"params": [net["middle"].weight]}]
    return net, torch.optim.AdamW(groups, lr=0.1, fused=True)


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    assert isinstance(net, nn.ModuleDict)
    optimizer.zero_grad()
    net["head"](net["middle"](net["embed"](torch.tensor([0, 1, 2])))).square().sum().backward()
    optimizer.step()


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in export_full(net).items()}


def saved(directory: Path, num: int, **options: object) -> CheckpointStore:
    """A store after `num` steps, each saved."""
    store = CheckpointStore(directory, run=RUN, **options)  # pyright: ignore[reportArgumentType]
    net, optimizer = network()
    for index in range(1, num + 1):
        step(net, optimizer)
        store.save({"stage": 0, "step": index}, net, optimizer, {"cursor": index})
    store.wait()
    return store


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_resumed_run_continues_to_the_same_bits(asynchronous: bool, tmp_path: Path) -> None:
    whole, optimizer = network()
    for _ in range(4):
        step(whole, optimizer)
    store = CheckpointStore(tmp_path, asynchronous=asynchronous)
    net, optimizer = network()
    step(net, optimizer)
    step(net, optimizer)
    generator = torch.Generator().manual_seed(3)
    extra = {"rng": generator.get_state(), "numpy": np.random.default_rng(1).bit_generator.state, "cursor": [1, "a"]}
    path = store.save({"stage": 1, "step": 2}, net, optimizer, extra)
    step(net, optimizer)
    drawn = torch.rand(3, generator=generator)
    store.wait()

    store = CheckpointStore(tmp_path)
    found = store.newest()
    assert found is not None
    assert (found["position"], found["path"], path.name) == ({"stage": 1, "step": 2}, path, "00000001-stage-1-step-2")
    assert found["extra"]["cursor"] == [1, "a"]
    assert found["extra"]["numpy"] == np.random.default_rng(1).bit_generator.state
    generator.set_state(found["extra"]["rng"])
    assert torch.equal(torch.rand(3, generator=generator), drawn)
    net, optimizer = network()
    optimizer.param_groups[0]["lr"] = 7.0
    store.load(net, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.1
    step(net, optimizer)
    step(net, optimizer)
    assert bits(net) == bits(whole)
    assert isinstance(net, nn.ModuleDict)
    assert net["head"].weight is net["embed"].weight


def test_weights_alone(tmp_path: Path) -> None:
    """The end of a stage: the next one starts with an optimiser of its own."""
    store = CheckpointStore(tmp_path)
    net, optimizer = network()
    step(net, optimizer)
    store.save({"stage": 1, "step": 0}, net, None, {})
    other, _ = network()
    store.load(other, None)
    assert bits(other) == bits(net)
    with pytest.raises(ValueError, match="saved without an optimiser"):
        store.load(net, optimizer)


def test_only_the_newest_stay_and_a_person_may_go_back(tmp_path: Path) -> None:
    saved(tmp_path, 4, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000003-stage-0-step-3",
        "00000004-stage-0-step-4",
        "newest",
    ]
    (tmp_path / "newest").write_text("00000003-stage-0-step-3")
    found = CheckpointStore(tmp_path, run=RUN).newest()
    assert found is not None
    assert found["position"]["step"] == found["extra"]["cursor"] == 3
    (tmp_path / "newest").unlink()
    found = CheckpointStore(tmp_path, run=RUN).newest()
    assert found is not None
    assert found["position"]["step"] == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncate state/__0_0.distcp", "has 10 bytes instead of"),
        ("flip state/__0_0.distcp", "state/__0_0.distcp is damaged"),
        ("flip extra.pt", "extra.pt is damaged"),
        ("remove state/.metadata", "state/.metadata is missing"),
        ("remove manifest.json", "manifest.json is unreadable"),
        ("truncate manifest.json", "manifest.json is unreadable"),
    ],
)
def test_a_damaged_checkpoint_is_skipped(
    damage: str, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 2)
    what, name = damage.split()
    path = tmp_path / "00000002-stage-0-step-2" / name
    content = path.read_bytes()
    if what == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:10] if what == "truncate" else content[:-100] + b"!" + content[-99:])
    store = CheckpointStore(tmp_path, keep=1, run=RUN)
    found = store.newest()
    assert found is not None
    assert found["position"]["step"] == 1
    assert message in caplog.text
    assert "00000002-stage-0-step-2" in caplog.text
    net, optimizer = network()
    store.load(net, optimizer)
    store.save({"stage": 0, "step": 2}, net, optimizer, {})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000003-stage-0-step-2", "newest"]


def test_half_written_ones_are_never_read_and_go(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    (tmp_path / "00000002-stage-0-step-2.new").mkdir()
    found = store.newest()
    assert found is not None
    assert found["position"]["step"] == 1
    net, optimizer = network()
    store.save({"stage": 0, "step": 2}, net, optimizer, {})
    assert not list(tmp_path.glob("*.new"))


def test_another_runs_checkpoint_is_refused_with_the_difference(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    other = json.loads(json.dumps(RUN))
    other["stages"][0]["num_steps"] = 5
    with pytest.raises(ValueError, match=r"another run: stages\[0\]\.num_steps is 4 there and 5 here"):
        CheckpointStore(tmp_path, run=other).newest()


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    with pytest.raises(ValueError, match=r"does not fit this model: .*weight"):
        store.load(nn.ModuleDict({"middle": nn.Linear(3, 4)}), None)
    with pytest.raises(ValueError, match=r"does not fit this model: .*Missing key.*other"):
        store.load(nn.ModuleDict({"other": nn.Linear(3, 4)}), None)


def test_nothing_there(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new")
    assert store.newest() is None
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        store.load(*network())
    with pytest.raises(ValueError, match="keep must be 1 or more checkpoints; got 0"):
        CheckpointStore(tmp_path, keep=0)
    with pytest.raises(ValueError, match="cannot be part of a file name"):
        store.save({"stage": "a/b"}, *network(), {})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_goes_wrong_while_writing_is_raised(asynchronous: bool, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, asynchronous=asynchronous)
    tmp_path.joinpath("00000001-step-1.new").write_text("a file in the way")
    with pytest.raises(OSError, match=r"00000001-step-1.new could not be written"):  # noqa: PT012
        store.save({"step": 1}, *network(), {})
        store.wait()
    assert store.newest() is None


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(ValueError, match=r"extra \(cursor\) may hold numbers, strings, tensors"):
        store.save({"step": 1}, *network(), {"cursor": Path("x")})
    assert store.newest() is None


def test_an_asynchronous_save_holds_the_weights_of_its_moment(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, asynchronous=True)
    net, optimizer = network()
    cursor = torch.zeros(1)
    before = bits(net)
    store.save({"step": 1}, net, optimizer, {"cursor": cursor})
    step(net, optimizer)
    cursor += 1
    found = store.newest()
    assert found is not None
    assert found["extra"]["cursor"] == 0
    store.load(net, optimizer)
    assert bits(net) == before


def train_for_ever(directory: Path, asynchronous: bool) -> None:
    """Steps and saves until it is killed; says in a file how far it is sure to have come."""
    torch.set_num_threads(1)
    net, optimizer = network()
    store = CheckpointStore(directory / "run", asynchronous=asynchronous)
    index = 0
    if (found := store.newest()) is not None:
        index = int(found["position"]["step"])
        store.load(net, optimizer)
    while True:
        index += 1
        step(net, optimizer)
        store.save({"step": index}, net, optimizer, {"weights": bits(net)})
        with (directory / "log").open("a") as log:
            log.write(f"{index}\n")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_kill_costs_at_most_one_interval(asynchronous: bool, tmp_path: Path) -> None:
    """Killed at six random moments, most of them in the middle of a save."""
    moments = np.random.default_rng(0)
    for _ in range(6):
        worker = processes().Process(target=train_for_ever, args=(tmp_path, asynchronous), daemon=True)
        done = len(lines) if (lines := _lines(tmp_path)) else 0
        worker.start()
        limit = time.monotonic() + 60
        while len(_lines(tmp_path)) < done + 2:
            assert time.monotonic() < limit, "it does not get on"
            assert worker.is_alive(), "it died by itself"
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.03))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        promised = int(_lines(tmp_path)[-1]) - asynchronous
        net, optimizer = network()
        store = CheckpointStore(tmp_path / "run")
        found = store.newest()
        assert found is not None
        assert int(found["position"]["step"]) >= promised
        store.load(net, optimizer)
        assert bits(net) == found["extra"]["weights"]


def _lines(directory: Path) -> list[str]:
    """Whole lines of the log."""
    log = directory / "log"
    return log.read_text().split("\n")[:-1] if log.is_file() else []
