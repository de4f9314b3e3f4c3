"""What an executor is made of, to a header and back: the only place that knows an executor's constructor."""

from collections.abc import Mapping, Sequence
from typing import Any

from cerebella.interfaces import ActionFilter, PolicyMetadata, Transport
from cerebella.runtime.camera_check import CameraCheck
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.recording.header import Header
from cerebella.runtime.trace import TraceSink


def describe_run(
    metadata: PolicyMetadata,
    config: ExecutorConfig,
    delay_estimator: DelayEstimator,
    run: Mapping[str, Any] | None = None,
    *,
    camera_check: CameraCheck | None = None,
) -> Header:
    """The header of a run that is about to begin.

    Args:
        metadata, config, delay_estimator, camera_check: as the executor gets them; the estimator as it is now.
        run: plain JSON values that say what else was run: seed, environment, command, commit.
    """
    cameras = None if camera_check is None else camera_settings(camera_check)
    return Header(metadata, config, delay_settings(delay_estimator), cameras, dict(run or {}))


def delay_settings(estimator: DelayEstimator) -> dict[str, Any]:
    """Everything that decides its next estimates; plain JSON values."""
    return {
        "initial": estimator._initial,
        "window": estimator._samples.maxlen,
        "quantile": estimator._quantile,
        "margin": estimator._margin,
        "num_warmup": estimator._num_warmup_left,
        "samples": list(estimator._samples),
    }


def camera_settings(check: CameraCheck) -> dict[str, Any]:
    """Its arguments; plain JSON values. A check serves one episode, so it has no past here."""
    return {
        "views": list(check._views),
        "max_age_s": check._max_age_s,
        "max_skew_s": check._max_skew_s,
        "num_tolerated": check._num_tolerated,
        "num_equal_frames": check._num_equal_frames,
    }


def make_camera_check(settings: Mapping[str, Any] | None, source: str) -> CameraCheck | None:
    """The described check; None for none.

    Raises:
        ValueError: a setting is missing, unknown or out of range; names the source.
    """
    if settings is None:
        return None
    try:
        return CameraCheck(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: the camera check cannot be made from {dict(settings)}: {error}") from error


def make_delay_estimator(settings: Mapping[str, Any], source: str) -> DelayEstimator:
    """An estimator that goes on as the described one did; `source` says in errors where the settings came from.

    Raises:
        ValueError: a setting is missing, unknown or out of range.
    """
    arguments = dict(settings)
    try:
        samples = arguments.pop("samples")
        num_warmup = arguments.pop("num_warmup")
        estimator = DelayEstimator(**arguments, num_warmup=0 if samples else num_warmup)
        for sample in samples:
            estimator.record(sample)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: the delay estimator cannot be made from {dict(settings)}: {error}") from error
    return estimator


def make_executor(
    header: Header,
    source: str,
    transport: Transport,
    action_filter: ActionFilter | None,
    sinks: Sequence[TraceSink],
) -> Executor:
    """The executor that a header describes, at the beginning of its run."""
    return Executor(
        header.metadata,
        header.config,
        transport,
        make_delay_estimator(header.delay_estimator, source),
        action_filter=action_filter,
        camera_check=make_camera_check(header.camera_check, source),
        sinks=sinks,
    )
