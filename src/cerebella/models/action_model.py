"""`ActionModel`: a cerebellum and whatever fills the context that it reads: its velocity field and its samplers."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cerebella.batch import Batch
from cerebella.models import flow, guidance
from cerebella.models.cerebellum import Cerebellum
from cerebella.models.config import ModelConfig
from cerebella.models.context import Context


class ActionModel(nn.Module, ABC):
    """What a `VLA` and a `StateModel` have in common; computes and answers in the number type of its weights.

    Attributes:
        cerebellum: made by the subclass. config: `ModelConfig`.
    """

    cerebellum: Cerebellum

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode(self, batch: Batch) -> Context:
        """What the cerebellum looks at, once per observation. Reads neither state nor actions of the batch."""

    def velocity(
        self,
        context: Context,
        state: Tensor,
        noisy_actions: Tensor,
        flow_time: Tensor,
        action_mask: Tensor,
        prefix_length: Tensor | None = None,
        hidden_columns: Tensor | None = None,
    ) -> Tensor:
        """One pass of the cerebellum: float[B, H, A], 0 on prefix rows.

        Args:
            state: float[B, 1, S]. noisy_actions: float[B, H, A] with clean prefix rows, any H. flow_time: float[B].
            action_mask: float[B, H, A]. prefix_length: int64[B], None is no prefix anywhere.
            hidden_columns: bool[H], training only, see `attention_mask.action_mask_between`.

        Raises:
            ValueError: a shape does not fit the config, or a prefix length is not in 0..H-1.
        """
        prefix_length = self._check(context, state, noisy_actions, action_mask, prefix_length)
        if flow_time.shape != (len(context),):
            raise ValueError(
                f"flow_time must be float[{len(context)}] (0 noise .. 1 data); got {list(flow_time.shape)}"
            )
        state, noisy_actions, flow_time, action_mask = self._cast(state, noisy_actions, flow_time, action_mask)
        seating = self.cerebellum.seat(context, noisy_actions.shape[1], prefix_length, hidden_columns)
        return self.cerebellum(context, seating, state, noisy_actions, flow_time, action_mask)

    def sample(
        self,
        context: Context,
        state: Tensor,
        noise: Tensor,
        action_mask: Tensor,
        action_prefix: Tensor | None = None,
        prefix_length: Tensor | None = None,
        num_flow_steps: int | None = None,
        hidden_columns: Tensor | None = None,
    ) -> Tensor:
        """Noise to actions in Euler steps: float[B, H, A]; the first rows equal the prefix bit for bit.

        Args:
            noise: float[B, H, A], standard normal, drawn by the caller; any H of 1 or more.
            action_prefix: float[B, H, A], rows beyond prefix_length are ignored.
            num_flow_steps: None takes the config's. hidden_columns: as in `velocity`.

        Raises:
            ValueError: as `velocity`; or a prefix length without a prefix.
        """
        if action_prefix is not None and prefix_length is None:
            raise ValueError("action_prefix needs prefix_length, the number of its rows that count; got none")
        prefix_length = self._check(context, state, noise, action_mask, prefix_length)
        state, start, action_mask = self._cast(state, noise, action_mask)
        if action_prefix is not None:
            if action_prefix.shape != noise.shape:
                raise ValueError(
                    f"action_prefix must have the shape of noise {list(noise.shape)}; got {list(action_prefix.shape)}"
                )
            start = flow.join_prefix(action_prefix.to(start), start, prefix_length)
        elif bool(prefix_length.any()):
            raise ValueError(f"prefix_length is {prefix_length.tolist()} (rows), but there is no action_prefix")
        seating = self.cerebellum.seat(context, noise.shape[1], prefix_length, hidden_columns)

        def velocity(noisy_actions: Tensor, flow_time: Tensor) -> Tensor:
            return self.cerebellum(context, seating, state, noisy_actions, flow_time, action_mask)

        return flow.euler(velocity, start, self.config.num_flow_steps if num_flow_steps is None else num_flow_steps)

    @torch.no_grad()
    def sample_guided(
        self,
        context: Context,
        state: Tensor,
        noise: Tensor,
        action_mask: Tensor,
        plan: Tensor,
        weights: Tensor,
        use_jacobian: Tensor | bool = True,
        beta: float = guidance.BETA,
        num_flow_steps: int | None = None,
    ) -> Tensor:
        """`sample` without a prefix, pulled towards a plan at every step (`guidance`): float[B, H, A], no gradient.

        The Jacobian goes through the cerebellum alone: the context is fixed, as are all parameters.

        Args:
            plan: float[B, H, A], model units. weights: float[B, H], `guidance.guidance_weights`; slots outside the action
                mask are not pulled. use_jacobian: False is the variant J = I; bool[B] decides per sample.
            beta: the largest gain.

        Raises:
            ValueError: as `sample`; a wrong shape of the guidance; or numbers made in inference mode, which keeps nothing
                that a gradient could use (encode under `torch.no_grad`).
        """
        prefix_length = self._check(context, state, noise, action_mask, None)
        if plan.shape != noise.shape or weights.shape != noise.shape[:2]:
            raise ValueError(
                f"plan must be float{list(noise.shape)} and weights float{list(noise.shape[:2])}; got {list(plan.shape)} "
                f"and {list(weights.shape)}"
            )
        if torch.is_inference_mode_enabled() or context.keys[0].is_inference():
            raise ValueError("guidance needs a gradient: encode and sample under torch.no_grad, not in inference mode")
        context = context.detach()
        state, start, action_mask, plan, weights = self._cast(state, noise, action_mask, plan, weights)
        seating = self.cerebellum.seat(context, noise.shape[1], prefix_length)

        def velocity(noisy_actions: Tensor, flow_time: Tensor) -> Tensor:
            return self.cerebellum(context, seating, state, noisy_actions, flow_time, action_mask)

        guided = guidance.guide(velocity, plan, weights[..., None] * action_mask, use_jacobian, beta)
        return flow.euler(guided, start, self.config.num_flow_steps if num_flow_steps is None else num_flow_steps)

    def _cast(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors in the number type of the weights."""
        return tuple(tensor.to(self.cerebellum.sink.weight.dtype) for tensor in tensors)

    def _check(
        self, context: Context, state: Tensor, actions: Tensor, action_mask: Tensor, prefix_length: Tensor | None
    ) -> Tensor:
        """Raise a ValueError on a wrong shape; return the prefix length, zeros for None."""
        config, batch_size = self.config, len(context)
        horizon = max(actions.shape[1], 1) if actions.ndim == 3 else config.horizon
        wanted = (batch_size, horizon, config.action_dim)
        for name, tensor, shape in (
            ("state", state, (batch_size, 1, config.state_dim)),
            ("actions", actions, wanted),
            ("action_mask", action_mask, wanted),
        ):
            if tensor.shape != shape:
                raise ValueError(f"{name} must be float{list(shape)}; got {list(tensor.shape)}")
        if prefix_length is None:
            return torch.zeros(batch_size, dtype=torch.int64, device=actions.device)
        if prefix_length.shape != (batch_size,):
            raise ValueError(f"prefix_length must be int64[{batch_size}] (rows); got {list(prefix_length.shape)}")
        return prefix_length
