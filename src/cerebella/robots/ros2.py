"""A ROS 2 robot as a robot of ours: joint states and pictures in, a trajectory point or an array of positions out.

Callbacks run in a thread of their own and keep the newest sample; `observe` waits for nothing. No hardware has seen this
yet: it is tested against a package that has rclpy's names and nothing else.
"""

import time
from collections.abc import Callable, Mapping

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Status
from cerebella.robots.mapping import Codec, RobotMapping
from cerebella.robots.robot import ControlTicks, RobotHealth, held
from cerebella.robots.ros2_api import load_ros2
from cerebella.robots.ros2_bridge import Ros2Bridge, camera_name
from cerebella.robots.ros2_config import Ros2Config
from cerebella.robots.ros2_samples import Sample
from cerebella.types import Action, Observation


class Ros2Robot:
    """Topics behind `Environment`; see `Robot`.

    Args:
        config: the topics.
        embodiment: what the numbers mean here. mapping: the joint names for them; a key `NAME` is a position,
            `NAME/velocity` and `NAME/effort` are measured only.
        prompt: the instruction.
        clock_s: monotonic seconds, the clock of the control loop.

    Raises:
        ValueError: mapping, topics and embodiment do not fit, or (in `connect`) there is no ROS 2.
    """

    def __init__(
        self,
        config: Ros2Config,
        embodiment: Embodiment,
        mapping: RobotMapping,
        prompt: str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._embodiment = embodiment
        self._codec = Codec(mapping, embodiment)
        _check_topics(config, self._codec)
        self._prompt = prompt
        self._clock_s = clock_s
        self._health = RobotHealth(embodiment.name, max_failures=0)
        self._ticks = ControlTicks(embodiment.name)
        self._last_sent: Action | None = None
        self._bridge: Ros2Bridge | None = None
        self._timestamp_s = -float("inf")
        self._exposures_s: dict[str, float] = {}

    @property
    def embodiment(self) -> Embodiment:
        """As given."""
        return self._embodiment

    @property
    def exposures_s(self) -> Mapping[str, float]:
        """Of the last observation; see `Robot`."""
        return self._exposures_s

    @property
    def last_sent(self) -> Action | None:
        """What was published last; ROS 2 does not say what a controller makes of it."""
        return self._last_sent

    def connect(self) -> None:
        """Join the ROS graph; wait for a sample of everything and for every controller.

        Raises:
            ValueError: no ROS 2, or something does not come in `connect_timeout_s`.
        """
        self.disconnect()
        bridge = Ros2Bridge(load_ros2(), self._config, self._codec, self._clock_s)
        try:
            bridge.wait(self._config.connect_timeout_s)
        except ValueError:
            bridge.close()
            raise
        self._health.clear()
        self._ticks = ControlTicks(self._embodiment.name)
        self._last_sent = None
        self._timestamp_s = -float("inf")
        self._bridge = bridge

    def disconnect(self) -> None:
        """Leave the ROS graph. The controller holds its last point."""
        if self._bridge is not None:
            self._bridge.close()
            self._bridge = None

    def reset(self, seed: int) -> None:
        """A new episode at tick 0. The robot does not move, and the seed decides nothing."""
        self._connected()
        self._ticks = ControlTicks(self._embodiment.name)
        self._health.forget_stop()

    def observe(self) -> Observation:
        """The newest sample of everything; the time stamp is that of the oldest among them.

        Raises:
            ValueError: not connected.
        """
        bridge = self._connected()
        samples = bridge.samples.snapshot()
        self._check_age(samples)
        state = self._codec.state({key: samples[key].value for key in self._codec.state_keys})
        images = {camera.view: samples[camera_name(camera.key)].value for camera in self._codec.cameras}
        self._exposures_s = {"state": min(samples[key].exposure_s for key in self._codec.state_keys)}
        self._exposures_s |= {c.view: samples[camera_name(c.key)].exposure_s for c in self._codec.cameras}
        self._timestamp_s = max(self._timestamp_s, min(self._exposures_s.values()))
        return Observation(state, self._prompt, self._ticks.now, self._timestamp_s, images)

    def apply(self, action: Action) -> None:
        """Publish the command of the current tick; after a fault nothing is published.

        Raises:
            ValueError: wrong shape, not connected, or `action.tick` is not the current tick (an old point is dropped).
        """
        self._ticks.check(action)
        self._publish(action)
        self._ticks.advance()

    def hold(self) -> None:
        """Publish the last command once more, as a joint trajectory controller holds its desired state."""
        if self._last_sent is not None and self._bridge is not None:
            self._publish(held(self._last_sent, self._embodiment))

    def stop(self, reason: str) -> None:
        """An operator ends the episode."""
        self._health.stop(reason)

    def status(self) -> Status:
        """Done after a fault or `stop`. Metrics: dropped messages, stamps from the future."""
        metrics: dict[str, float] = {}
        if self._bridge is not None:
            samples = self._bridge.samples
            metrics = {f"num_dropped_{reason}": float(samples.dropped[reason]) for reason in ("old", "broken")}
            metrics["num_future_stamps"] = float(samples.num_future_stamps)
        return self._health.status(metrics)

    def _publish(self, action: Action) -> None:
        theirs = self._codec.command(action.values)
        bridge = self._connected()
        if self._health.fault_reason:
            return
        try:
            bridge.publish(theirs)
        except Exception as error:  # the boundary to a foreign middleware: its errors end the episode, not the process
            self._health.failed("write", error)
            return
        self._last_sent = action

    def _check_age(self, samples: dict[str, Sample]) -> None:
        now_s = self._clock_s()
        name, oldest = min(samples.items(), key=lambda item: item[1].exposure_s)
        if now_s - oldest.exposure_s > self._config.max_age_s:
            self._health.fault(
                f"{name} was measured {now_s - oldest.exposure_s:.3f} s ago; max_age_s is {self._config.max_age_s:g} s. "
                "Did it stop, or does its publisher stamp with another clock (then stamp: arrival)?"
            )

    def _connected(self) -> Ros2Bridge:
        if self._bridge is None:
            raise ValueError(f"{self._embodiment.name}: call connect() first")
        return self._bridge


def _check_topics(config: Ros2Config, codec: Codec) -> None:
    """Raise a ValueError unless every action goes to a controller and every camera has a topic."""
    commanded = {name for command in config.commands for name in command.joint_names}
    if missing := [key for key in codec.action_keys if key not in commanded]:
        raise ValueError(f"ros2: no command topic takes the joint {missing[0]!r}")
    if extra := sorted(commanded - set(codec.action_keys)):
        raise ValueError(f"ros2: a command topic takes the joint {extra[0]!r}, which no action channel gives")
    cameras, topics = {camera.key for camera in codec.cameras}, [image.camera for image in config.images]
    if cameras != set(topics) or len(set(topics)) != len(topics):
        raise ValueError(
            f"ros2: the cameras of the mapping are {', '.join(sorted(cameras)) or 'none'}, those of the image topics "
            f"{', '.join(topics) or 'none'}; there must be one topic for each"
        )
