"""What needs one process only; two of them are in `distributed/`."""

import pytest
import torch

from cerebella.training.parallel import (
    World,
    accumulate,
    clip_gradients,
    mean_count,
    mean_over_ranks,
    shard,
    start_world,
    stop_world,
)

from .distributed import micro

CPU = torch.device("cpu")


def test_shares_cover_each_row_once() -> None:
    shares = [list(range(12))[World(rank, 3, CPU).share(12)] for rank in range(3)]
    assert [row for share in shares for row in share] == list(range(12))
    assert {len(share) for share in shares} == {4}
    with pytest.raises(ValueError, match="13 rows cannot be split evenly over 3 processes"):
        World(0, 3, CPU).share(13)


def test_one_process_needs_no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = start_world()
    assert (world.rank, world.size, world.is_main) == (0, 1, True)
    assert not torch.distributed.is_initialized()
    stop_world(world)


def test_half_an_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE is 2, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"):
        start_world()


def test_alone_everything_is_as_it_was() -> None:
    trained = micro.modules()
    names = list(trained.state_dict())
    shard(trained, micro.ALONE, hybrid=1)
    accumulate(trained, is_last=False)
    assert list(trained.state_dict()) == names
    assert mean_over_ranks({"b": 1.0, "a": 2.0}, micro.ALONE) == {"b": 1.0, "a": 2.0}
    assert mean_count(torch.tensor(3), micro.ALONE).item() == 3.0


def test_gradients_are_scaled_together() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([first, second], max_norm=1.0) == pytest.approx(5.0)
    assert (first.grad.item(), second.grad.item()) == pytest.approx((0.6, 0.8), rel=1e-5)
