"""`Engine`: the same answers as `VLA`, sooner. Static shapes, fused projections, no host synchronisation inside.

What it leaves out: the word head, all of the last brain layer but its keys and values, the caches that nobody reads, the
modulation of flow times that are known beforehand, the concatenation of K/V at every step. What it adds: prompt lengths in
buckets, every prefix length through one graph, compilation without graph breaks, CUDA graphs.

`VLA` stays the readable truth; tests hold the two together. Both share their weights: the engine is another view.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.attention_mask import check_prefix_length
from cerebella.models.vla import VLA
from cerebella.policies.engine.action import ActionDecoder
from cerebella.policies.engine.language import LanguageModel
from cerebella.policies.engine.layout import Layout, pad_to, plan
from cerebella.policies.engine.session import EngineContext, Session
from cerebella.policies.engine.vision import VisionTower

Compile = Literal["no", "layers", "whole"]


@dataclass(frozen=True)
class EngineConfig:
    """How an engine runs.

    Args:
        compile: `no`; `layers` compiles one layer of each kind and reuses it (seconds); `whole` compiles each part in one
            piece (a minute, a little faster on a CPU).
        backend: of `torch.compile`. use_graphs: capture CUDA graphs; only on a GPU.
        bucket: token lengths are padded up to a multiple of this.
        max_layouts: sessions kept ready; the one used least recently goes first.
    """

    compile: Compile = "no"
    backend: str = "inductor"
    use_graphs: bool = False
    bucket: int = 16
    max_layouts: int = 16

    def __post_init__(self) -> None:
        if self.compile not in ("no", "layers", "whole"):
            raise ValueError(f"compile is {self.compile!r}; known: no, layers, whole")
        for name in ("bucket", "max_layouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")


def default_config(device: torch.device) -> EngineConfig:
    """On a GPU compiled layers and graphs; elsewhere neither, and no padding (compiling outlasts most CPU runs)."""
    return EngineConfig(compile="layers", use_graphs=True) if device.type == "cuda" else EngineConfig(bucket=1)


class Engine:
    """See the module. For inference; callers in several threads wait for each other.

    Args:
        model: weights, type and device; it stays usable (its fused weights become views of the engine's).
        horizon: H, None takes the model's. config: None takes `default_config`.

    Attributes:
        vision, language, action: the three parts, trees of `nn.Module` whose products are `nn.Linear`.

    Raises:
        ValueError: graphs without a GPU, or a horizon that is not an integer of 1 or more.
    """

    def __init__(self, model: VLA, horizon: int | None = None, config: EngineConfig | None = None) -> None:
        brain = model.brain.model
        self.vision = VisionTower(brain.visual).eval()
        self.language = LanguageModel(brain.language_model, model.config.num_layers).eval()
        self.action = ActionDecoder(model.cerebellum).eval()
        self.model_config = model.config
        self.horizon = model.config.horizon if horizon is None else horizon
        if not isinstance(self.horizon, int) or self.horizon < 1:
            raise ValueError(f"horizon must be an integer of 1 or more rows; got {self.horizon!r}")
        self.config = default_config(self.device) if config is None else config
        if self.config.use_graphs and self.device.type != "cuda":
            raise ValueError(f"CUDA graphs need a GPU; the weights are on {self.device}")
        self._sessions: OrderedDict[Layout, Session] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        self._compile()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.action.sink.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers between the layers."""
        return self.action.sink.dtype

    @torch.inference_mode()
    def encode(self, batch: Batch) -> EngineContext:
        """Views and instruction to K/V, as `VLA.encode`; `batch` on the CPU.

        Raises:
            ValueError: padding on the left, or pictures that do not match the image tokens.
        """
        layout_plan = plan(batch, self.vision.merge_size, self.config.bucket)
        layout = layout_plan.layout
        length = layout.length
        is_valid = pad_to(batch.attention_mask, length).bool()
        with self._one_at_a_time:
            session = self._session(layout)
            return session.encode(layout_plan, pad_to(batch.input_ids, length), is_valid, batch.pixel_values)

    @torch.inference_mode()
    def look_ahead(self, batch: Batch) -> None:
        """Start the vision tower on the batch that will be encoded next: the same object, not a copy.

        On a GPU this overlaps with a `sample` that is under way (the cerebellum waits for memory, the tower for
        arithmetic). `encode` of any other batch ignores it.
        """
        if batch.pixel_values is not None:
            layout_plan = plan(batch, self.vision.merge_size, self.config.bucket)
            with self._one_at_a_time:
                self._session(layout_plan.layout).look_ahead(batch.pixel_values)

    @torch.inference_mode()
    def sample(
        self,
        context: EngineContext,
        state: Tensor,
        noise: Tensor,
        action_mask: Tensor,
        action_prefix: Tensor | None = None,
        prefix_length: Tensor | None = None,
        num_flow_steps: int | None = None,
    ) -> Tensor:
        """Noise to actions, as `VLA.sample`: [B, H, A] on the engine's device. Call it again on the same context to
        re-plan with a fresh state and prefix at the cost of the cerebellum alone (and of one copy of its K/V, whenever
        another context of the same layout was used in between).

        Raises:
            ValueError: a shape does not fit, a prefix length is not in 0..H-1, or there is a length without a prefix.
        """
        wanted = (len(context), self.horizon, self.model_config.action_dim)
        for name, tensor, shape in (
            ("state", state, (len(context), 1, self.model_config.state_dim)),
            ("noise", noise, wanted),
            ("action_mask", action_mask, wanted),
            ("action_prefix", noise if action_prefix is None else action_prefix, wanted),
        ):
            if tensor.shape != shape:
                raise ValueError(f"{name} must be float{list(shape)}; got {list(tensor.shape)}")
        if prefix_length is None:
            if action_prefix is not None:
                raise ValueError("action_prefix needs prefix_length, the number of its rows that count; got none")
            prefix_length = torch.zeros(len(context), dtype=torch.int64)
        check_prefix_length(prefix_length, self.horizon)
        if prefix_length.shape != (len(context),):
            raise ValueError(f"prefix_length must be int64[{len(context)}] (rows); got {list(prefix_length.shape)}")
        if action_prefix is None:
            if bool(prefix_length.any()):
                raise ValueError(f"prefix_length is {prefix_length.tolist()} (rows), but there is no action_prefix")
            action_prefix = torch.zeros_like(noise)
        steps = self.model_config.num_flow_steps if num_flow_steps is None else num_flow_steps
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"num_flow_steps must be an integer of 1 or more; got {steps!r}")
        if context.session.action is not self.action or context.session.horizon != self.horizon:
            raise ValueError("this context was encoded by another engine: encode again")
        with self._one_at_a_time:
            return context.session.sample(context, state, noise, action_mask, action_prefix, prefix_length, steps)

    def forget_sessions(self) -> None:
        """Drop all buffers, graphs and precomputed modulations: needed after weights were exchanged (quantised) or trained."""
        self._sessions.clear()

    def _session(self, layout: Layout) -> Session:
        if layout not in self._sessions:
            self._sessions[layout] = Session(
                self.vision, self.language, self.action, layout, self.horizon, self.config.use_graphs
            )
            if len(self._sessions) > self.config.max_layouts:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(layout)
        return self._sessions[layout]

    def _compile(self) -> None:
        if self.config.compile == "no":
            return
        whole = (self.vision, self.language, self.action)
        layers = (*self.vision.blocks, *self.language.layers, *self.action.layers)
        for module in whole if self.config.compile == "whole" else layers:
            module.compile(fullgraph=True, dynamic=False, backend=self.config.backend)
