"""Who races: the peer as it comes, the readable model, the engine; each with the weights of one `VLA`."""

import torch
from torch import nn

from cerebella.models.vla import VLA
from cerebella.policies.engine import Compile, Engine, EngineConfig

from .counting import weight_bytes
from .peer import Peer
from .rows import NULL, REFERENCE, Contender

PEER_COMPILED = "peer, torch.compile"
READABLE = "readable model"
ENGINE = "engine"


def usual(model: VLA, with_null: bool = True) -> list[Contender]:
    """Eager peer (the reference, first), the same again as a null check, and the readable model."""
    reference = Contender(REFERENCE, Peer(model), *_facts(model), replans=True)
    null = Contender(NULL, Peer(model), *_facts(model))
    readable = Contender(READABLE, model, *_facts(model))
    return [reference, null, readable] if with_null else [reference, readable]


def compiled_peer(model: VLA) -> Contender:
    """The peer under `torch.compile`, default mode; graph breaks are allowed."""
    return Contender(PEER_COMPILED, Peer(model).compiled(), *_facts(model), is_compiled=True)


def engine(model: VLA, compile: Compile = "no", use_graphs: bool = False, name: str | None = None) -> Contender:
    """The engine. Compiled means `fullgraph=True`: a graph break is an error, so a row is the proof that there is none."""
    built = Engine(model, config=EngineConfig(compile=compile, use_graphs=use_graphs))
    how = ["", f", compiled ({compile})"][compile != "no"] + ", CUDA graphs" * use_graphs
    return engine_contender(name or ENGINE + how, built)


def engine_contender(name: str, built: Engine, num_flow_steps: int | None = None) -> Contender:
    """An engine that exists already."""
    parts = nn.ModuleList([built.vision, built.language, built.action])
    return Contender(
        name,
        built,
        built.device,
        weight_bytes(parts),
        float(built.dtype.itemsize),
        from_host=True,
        is_compiled=built.config.compile != "no",
        num_flow_steps=num_flow_steps,
        replans=True,
    )


def _facts(model: VLA) -> tuple[torch.device, int, float]:
    """Where the weights are, how many bytes they have together, and each."""
    one = next(model.parameters())
    return one.device, weight_bytes(model), float(one.element_size())
