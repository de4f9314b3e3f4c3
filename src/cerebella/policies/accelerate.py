"""From a policy on the readable model to the same policy on the fast engine, in smaller numbers if wanted."""

from collections.abc import Sequence

from cerebella.models.vla import VLA
from cerebella.policies.engine import Engine, EngineConfig
from cerebella.policies.engine.calibration import calibrate
from cerebella.policies.engine.quantization import Scheme, parts, quantize
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.types import FloatArray, Observation


def accelerate(
    policy: VLAPolicy,
    config: EngineConfig | None = None,
    scheme: Scheme | None = None,
    calibration: Sequence[tuple[Observation, FloatArray]] = (),
) -> VLAPolicy:
    """The same policy on an `Engine` over the same weights: float32 answers agree to rounding.

    If these weights are trained further, call `forget_sessions` of the engine: it has computed the modulation beforehand.

    Args:
        policy: on the readable model, on its device and in its type. Drop it afterwards if memory matters: the two share
            their weights, and quantised layers are freed only when nobody holds the originals.
        config: None takes the device's default.
        scheme: None leaves the numbers as they are; see `engine.quantization`.
        calibration: real requests (observation, action_prefix), from which `fp8` learns the range of every layer's input; a
            few dozen that cover the task. Random ones spoil it.

    Raises:
        ValueError: the policy runs on an engine already, `fp8` without calibration or the other way round, or a scheme that
            this device or type does not support.
    """
    if not isinstance(policy.model, VLA):
        raise ValueError(f"only a policy on the readable model can be accelerated; got {type(policy.model).__name__}")
    if (scheme == "fp8") != bool(calibration):
        raise ValueError(
            f"calibration requests go with the scheme 'fp8' and only with it; got {len(calibration)}, {scheme!r}"
        )
    horizon = policy.metadata.horizon
    engine = Engine(policy.model, horizon, config)
    if scheme is not None:
        scales = None
        if scheme == "fp8":
            plain = Engine(policy.model, horizon, EngineConfig(bucket=engine.config.bucket))
            rehearsal = VLAPolicy(plain, policy.processor, policy.metadata, policy.num_flow_steps)

            def rehearse() -> None:
                for observation, action_prefix in calibration:
                    rehearsal.infer(observation, action_prefix)

            scales = calibrate(parts(plain), rehearse)
        quantize(parts(engine), scheme, scales=scales)
    return VLAPolicy(engine, policy.processor, policy.metadata, policy.num_flow_steps)
