"""The campaign of `bench/fuzz_server.py`, small, against a server in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fuzz.campaign import Campaign
from bench.fuzz.hostile_pickles import are_live, hostile_pickles
from bench.fuzz.messages import DIALECTS, Messages
from bench.fuzz.server_process import MAX_MESSAGE_BYTES, EchoPolicy, all_dialects
from cerebella.serving.background import BackgroundServer
from cerebella.serving.server import ServerConfig

NUM_MESSAGES = 400


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    listeners = dict.fromkeys(all_dialects(), 0)
    with BackgroundServer(EchoPolicy(), listeners, ServerConfig(max_message_bytes=MAX_MESSAGE_BYTES)) as server:
        yield server


@pytest.mark.parametrize("dialect", DIALECTS)
def test_hostile_messages(dialect: str, server: BackgroundServer, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    campaign = Campaign(dialect, server.server.ports[dialect], seed=1, canary=canary)
    outcome = campaign.run(NUM_MESSAGES, batch=100, between=lambda: None)
    assert outcome.num_checks == NUM_MESSAGES // 100
    assert sum(outcome.num_sent.values()) == NUM_MESSAGES
    assert outcome.num_answered + outcome.num_ended + outcome.num_sent["half frame"] == NUM_MESSAGES
    assert not canary.exists()


def test_the_pickles_are_harmful_elsewhere(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickles = hostile_pickles(canary)
    assert len(pickles) > 50
    assert are_live(pickles, canary)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_seed_decides_every_message(dialect: str, tmp_path: Path) -> None:
    def stream(seed: int) -> list[bytes]:
        messages = Messages(dialect, seed, tmp_path / "canary")
        return [messages.message(kind) for kind in ("random", "mutated", "truncated", "wrong schema", "pickle") * 5]

    assert stream(3) == stream(3)
    assert stream(3) != stream(4)
