"""`Session`: the static buffers of one layout, and the three stages that run over them.

vision     pixels -> image tokens and DeepStack features
language   tokens -> K/V of the context, in place
action     noise -> actions in Euler steps

On a GPU each stage is captured once as a CUDA graph; nothing inside reads a value back to the host.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cerebella.policies.engine.action import ActionDecoder
from cerebella.policies.engine.language import LanguageModel
from cerebella.policies.engine.layout import Layout, Plan
from cerebella.policies.engine.vision import VisionTower

NUM_WARM_UPS = 3
"""Runs before a capture: lazy initialisation and compilation must be over by then."""


class EngineContext:
    """What the engine encoded once; survives later encodes for as long as somebody holds it.

    The K/V live in the session's buffers. Before these are overwritten, a context that is still held is copied out.

    Attributes:
        session: whose buffers it fits. keys, values: None while it is resident there, else per layer
            [B, heads, L, head_dim].
        is_valid: bool[B, L]. last_position: int64[B].
    """

    def __init__(self, session: "Session", is_valid: Tensor, last_position: Tensor) -> None:
        self.session, self.is_valid, self.last_position = session, is_valid, last_position
        self.keys: list[Tensor] | None = None
        self.values: list[Tensor] | None = None

    def __len__(self) -> int:
        """Number of samples, B."""
        return len(self.is_valid)


class Session:
    """See the module.

    Args:
        vision, language, action: the parts, weights on one device. layout: the sizes. horizon: H.
        use_graphs: capture CUDA graphs.
    """

    def __init__(
        self,
        vision: VisionTower,
        language: LanguageModel,
        action: ActionDecoder,
        layout: Layout,
        horizon: int,
        use_graphs: bool,
    ) -> None:
        self.vision, self.language, self.action = vision, language, action
        self.layout, self.horizon, self.use_graphs = layout, horizon, use_graphs
        config = action.config
        device, dtype = action.sink.device, action.sink.dtype
        size, length, grids = layout.batch_size, layout.length, layout.grids
        merged = vision.merge_size**2

        def static(*shape: int, dtype: torch.dtype = dtype) -> StaticInput:
            return StaticInput(shape, dtype, device)

        self.pixels = static(layout.num_patches, vision.patch.in_features)
        self.input_ids = static(size, length, dtype=torch.int64)
        self.positions = static(3, size, length, dtype=torch.int64)
        self.image_index = static(layout.num_patches // merged, dtype=torch.int64)
        self.is_valid = static(size, length, dtype=torch.bool)
        self.last_position = static(size, dtype=torch.int64)
        self.state = static(size, 1, config.state_dim)
        self.noise, self.prefix, self.action_mask = (static(size, horizon, config.action_dim) for _ in range(3))
        self.prefix_length = static(size, dtype=torch.int64)
        self.vision_constants = vision.constants(grids) if grids else None
        self.prefix_table = action.prefix_table(horizon)
        self.num_repeats = config.num_heads // config.num_kv_heads
        shape = (size, config.num_heads, length + 2 + horizon, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self.values = [torch.zeros_like(key) for key in self.keys]
        self.sight: tuple[Tensor | None, list[Tensor]] = (None, [])
        self.modulations: dict[int, Tensor] = {}
        self.stages: dict[str, Callable[[], Tensor | None]] = {}
        self.resident: weakref.ref[EngineContext] | None = None
        self.ahead: Tensor | None = None
        self.side = SideStream(device) if device.type == "cuda" else None

    def look_ahead(self, pixels: Tensor) -> None:
        """Run the vision stage for the next `encode`; on a GPU beside whatever runs now."""
        if self.side is None:
            self._look(pixels)
        else:
            with self.side.beside_the_main_stream():
                self._look(pixels)
        self.ahead = pixels

    def encode(self, plan: Plan, input_ids: Tensor, is_valid: Tensor, pixels: Tensor | None) -> EngineContext:
        """Run vision and language on new inputs; all tensors as `Engine.encode` prepares them."""
        self._evict()
        self.input_ids.set(input_ids)
        self.positions.set(plan.positions)
        if self.side is not None:
            self.side.join()
        if pixels is not None:
            self.image_index.set(plan.image_index)
            if self.ahead is not pixels:
                self._look(pixels)
        self.ahead = None
        self._run("language", self._read)
        if self.side is not None:
            self.side.mark()
        context = EngineContext(self, is_valid, plan.last_position)
        self.resident = weakref.ref(context)
        return context

    def sample(
        self,
        context: EngineContext,
        state: Tensor,
        noise: Tensor,
        action_mask: Tensor,
        prefix: Tensor,
        prefix_length: Tensor,
        num_flow_steps: int,
    ) -> Tensor:
        """Run the Euler steps behind `context`: [B, H, A], a new tensor."""
        self._load(context)
        for static, value in (
            (self.is_valid, context.is_valid),
            (self.last_position, context.last_position),
            (self.state, state),
            (self.noise, noise),
            (self.action_mask, action_mask),
            (self.prefix, prefix),
            (self.prefix_length, prefix_length),
        ):
            static.set(value)
        if num_flow_steps not in self.modulations:
            self.modulations[num_flow_steps] = self.action.modulation(num_flow_steps)
        actions = self._run(f"action {num_flow_steps}", lambda: self._act(num_flow_steps))
        assert actions is not None
        return actions.clone()

    def _look(self, pixels: Tensor) -> None:
        self.pixels.set(pixels)
        self._run("vision", self._see)

    def _see(self) -> None:
        assert self.vision_constants is not None
        self.sight = self.vision(self.pixels.tensor, *self.vision_constants, self.layout.grids)

    def _read(self) -> None:
        image_tokens, taps = self.sight
        cos, sin = self.language.rotation(self.positions.tensor)
        new_keys, new_values = self.language(
            self.input_ids.tensor, image_tokens, taps, self.image_index.tensor, cos, sin
        )
        for buffers, news in ((self.keys, new_keys), (self.values, new_values)):
            for buffer, new in zip(buffers, news, strict=True):
                heads = new.repeat_interleave(self.num_repeats, dim=1) if self.num_repeats > 1 else new
                buffer[:, :, : self.layout.length] = heads

    def _act(self, num_flow_steps: int) -> Tensor:
        bias, cos, sin, is_noisy = self.action.prepare(
            self.is_valid.tensor, self.last_position.tensor, self.prefix_length.tensor, self.prefix_table
        )
        tokens = self.action.tokens(self.state.tensor)
        actions = torch.where(is_noisy, self.noise.tensor, self.prefix.tensor)
        for modulation in self.modulations[num_flow_steps]:
            actions = self.action(
                actions,
                tokens,
                self.action_mask.tensor,
                modulation,
                self.keys,
                self.values,
                bias,
                cos,
                sin,
                is_noisy,
                1.0 / num_flow_steps,
            )
        return actions

    def _run(self, name: str, stage: Callable[[], Tensor | None]) -> Tensor | None:
        """Run a stage, or replay its graph; the first time capture it."""
        if not self.use_graphs:
            return stage()
        if name not in self.stages:
            self.stages[name] = _capture(stage)
        return self.stages[name]()

    def _evict(self) -> None:
        """Copy the resident context out of the buffers if somebody still holds it."""
        context = self.resident() if self.resident is not None else None
        self.resident = None
        if context is not None:
            length = self.layout.length
            context.keys = [key[:, :, :length].clone() for key in self.keys]
            context.values = [value[:, :, :length].clone() for value in self.values]

    def _load(self, context: EngineContext) -> None:
        """Make `context` the resident one."""
        if context.session is not self:
            raise ValueError("this context was encoded by another engine or layout")
        if self.resident is not None and self.resident() is context:
            return
        self._evict()
        assert context.keys is not None
        assert context.values is not None
        for buffers, kept in ((self.keys, context.keys), (self.values, context.values)):
            for buffer, tensor in zip(buffers, kept, strict=True):
                buffer[:, :, : self.layout.length] = tensor
        context.keys = context.values = None
        self.resident = weakref.ref(context)


class StaticInput:
    """A buffer with a fixed address on the device; host values travel through pinned memory, without waiting."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.zeros(shape, dtype=dtype, device=device)
        self.pinned = torch.zeros(shape, dtype=dtype, pin_memory=True) if device.type == "cuda" else None
        self.copied = torch.cuda.Event() if self.pinned is not None else None

    def set(self, value: Tensor) -> None:
        """Take over a tensor of the same shape, from any device and of any type that converts."""
        assert value.shape == self.tensor.shape, (value.shape, self.tensor.shape)
        if self.pinned is None or self.copied is None or value.device.type != "cpu":
            self.tensor.copy_(value, non_blocking=True)
            return
        self.copied.synchronize()  # the transfer before this one, over long ago
        self.pinned.copy_(value)
        self.tensor.copy_(self.pinned, non_blocking=True)
        self.copied.record()


class SideStream:
    """A second stream for the vision stage, which may start once the language stage before it has read the last sight."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.has_read = torch.cuda.Event()

    def mark(self) -> None:
        """The main stream has been told to read; what comes to the side stream later waits for that, not for more."""
        self.has_read.record()

    @contextmanager
    def beside_the_main_stream(self) -> Iterator[None]:
        """Queue work on the side stream."""
        self.stream.wait_event(self.has_read)
        with torch.cuda.stream(self.stream):
            yield

    def join(self) -> None:
        """The main stream waits for what the side stream has been told to do."""
        torch.cuda.current_stream().wait_stream(self.stream)


def _capture(stage: Callable[[], Tensor | None]) -> Callable[[], Tensor | None]:
    """A CUDA graph of `stage`, and a function that replays it and returns the stage's (static) result."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(NUM_WARM_UPS):
            stage()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = stage()

    def replay() -> Tensor | None:
        graph.replay()
        return result

    return replay
