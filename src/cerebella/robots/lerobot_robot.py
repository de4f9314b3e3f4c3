"""Any object with the `Robot` API of LeRobot (`lerobot/robots/robot.py`, 0.4) as a robot of ours. LeRobot is not imported.

`get_observation` of LeRobot reads the motors synchronously in the calling thread, which is the control thread here:
motors and commands share one serial bus that no two threads may use. The time it takes is measured (`status().metrics`)
and must fit the control period. Cameras have threads of their own; the newest frame is taken, nothing is waited for.
"""

import time
from collections.abc import Callable, Mapping

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Status
from cerebella.robots.lerobot_api import LeRobotApi, check_features
from cerebella.robots.mapping import Codec, RobotMapping
from cerebella.robots.robot import ControlTicks, RobotHealth, held, is_altered
from cerebella.types import Action, ImageArray, Observation


class LeRobotRobot:
    """A LeRobot robot behind `Environment`; see `Robot`.

    Args:
        robot: e.g. `lerobot.robots.so_follower.SO101Follower(config)`.
        embodiment: what its numbers mean here. mapping: its names for them.
        prompt: the instruction.
        max_failures: reads (or writes) in a row that may fail before it is a fault. Until then the last sample counts,
            with its own, old time stamp.
        clock_s: monotonic seconds, the clock of the control loop.

    Attributes:
        num_altered: commands that the robot changed, e.g. by its `max_relative_target`.

    Raises:
        ValueError: mapping, embodiment and the robot's features do not fit.
    """

    def __init__(
        self,
        robot: LeRobotApi,
        embodiment: Embodiment,
        mapping: RobotMapping,
        prompt: str,
        max_failures: int = 3,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._robot = robot
        self._embodiment = embodiment
        self._codec = Codec(mapping, embodiment)
        check_features(self._codec, robot.observation_features, robot.action_features)
        self._prompt = prompt
        self._clock_s = clock_s
        self._health = RobotHealth(embodiment.name, max_failures)
        self._ticks = ControlTicks(embodiment.name)
        self._forget()

    def _forget(self) -> None:
        self._sample: Observation | None = None
        self._last_sent: Action | None = None
        self._num_reads = 0
        self._total_read_s = 0.0
        self._max_read_s = 0.0
        self._clock_offset_s = 0.0
        self._exposures_s: dict[str, float] = {}
        self.num_altered = 0

    @property
    def embodiment(self) -> Embodiment:
        """As given."""
        return self._embodiment

    @property
    def exposures_s(self) -> Mapping[str, float]:
        """Of the last sample; see `Robot`."""
        return self._exposures_s

    @property
    def last_sent(self) -> Action | None:
        """What `send_action` said it sent; None before the first command."""
        return self._last_sent

    def connect(self) -> None:
        """Connect without calibrating, and read once.

        Raises:
            ValueError: it is not calibrated, or its first reading is not what the mapping says.
        """
        if not self._robot.is_connected:
            self._robot.connect(calibrate=False)
        if not self._robot.is_calibrated:
            self.disconnect()
            raise ValueError(
                f"{self._embodiment.name}: the robot is not calibrated; its numbers would mean something else. "
                "Calibrate it first (lerobot-calibrate)"
            )
        self._health.clear()
        self._forget()
        self._ticks = ControlTicks(self._embodiment.name)
        self._clock_offset_s = self._clock_s() - time.perf_counter()
        try:
            self._sample = self._read()
        except Exception as error:  # the boundary to a foreign driver: nothing has moved yet, so say it and end
            self.disconnect()
            raise ValueError(f"{self._embodiment.name}: the first reading failed: {error}") from error

    def disconnect(self) -> None:
        """Close it. An SO arm goes limp then, unless its `disable_torque_on_disconnect` is false."""
        if self._robot.is_connected:
            self._robot.disconnect()

    def reset(self, seed: int) -> None:
        """A new episode at tick 0. The robot does not move, and the seed decides nothing.

        Raises:
            ValueError: not connected.
        """
        if self._sample is None:
            raise ValueError(f"{self._embodiment.name}: call connect() first")
        self._ticks = ControlTicks(self._embodiment.name)
        self._health.forget_stop()

    def observe(self) -> Observation:
        """Read now. The time stamp is that of the oldest sensor in it.

        Raises:
            ValueError: not connected.
        """
        if self._sample is None:
            raise ValueError(f"{self._embodiment.name}: call connect() first")
        if not self._health.fault_reason:
            try:
                self._sample = self._read()
                self._health.succeeded("read")
            except Exception as error:  # the boundary to a foreign driver: whatever it raises is a failed read, counted
                self._health.failed("read", error)
        last = self._sample
        return Observation(last.state, self._prompt, self._ticks.now, last.timestamp_s, last.images, last.tactile)

    def apply(self, action: Action) -> None:
        """Send the command of the current tick; after a fault nothing is sent.

        Raises:
            ValueError: wrong shape, or `action.tick` is not the current tick.
        """
        self._ticks.check(action)
        theirs = self._codec.command(action.values)
        if not self._health.fault_reason:
            self._send(action, theirs)
        self._ticks.advance()

    def hold(self) -> None:
        """Send the last command once more; see `Robot`."""
        if self._last_sent is not None and not self._health.fault_reason:
            command = held(self._last_sent, self._embodiment)
            self._send(command, self._codec.command(command.values))

    def stop(self, reason: str) -> None:
        """An operator ends the episode."""
        self._health.stop(reason)

    def status(self) -> Status:
        """Done after a fault or `stop`. Metrics: reads, their mean and worst time, failures, altered commands."""
        metrics = {
            "num_reads": float(self._num_reads),
            "mean_read_s": self._total_read_s / max(1, self._num_reads),
            "max_read_s": self._max_read_s,
            "num_failures": float(self._health.num_failures),
            "num_altered": float(self.num_altered),
        }
        return self._health.status(metrics)

    def _send(self, action: Action, theirs: dict[str, float]) -> None:
        try:
            sent = Action(self._codec.sent(self._robot.send_action(theirs)), action.tick)
        except Exception as error:  # the boundary to a foreign driver: whatever it raises is a failed write, counted
            self._health.failed("write", error)
            return
        self._health.succeeded("write")
        self._last_sent = sent
        self.num_altered += is_altered(action, sent, self._embodiment)

    def _read(self) -> Observation:
        stamps_s = {camera.key: self._frame_stamp_s(camera.key) for camera in self._codec.cameras}  # before the frames
        start_s = self._clock_s()
        values = self._robot.get_observation()
        duration_s = self._clock_s() - start_s
        self._num_reads += 1
        self._total_read_s += duration_s
        self._max_read_s = max(self._max_read_s, duration_s)
        state = self._codec.state(values)
        exposures_s = {"state": start_s - self._codec.state_delay_s}
        images: dict[str, ImageArray] = {}
        for camera in self._codec.cameras:
            if camera.key not in values:
                raise ValueError(f"the robot reports no camera {camera.key!r} (for the view {camera.view!r})")
            images[camera.view] = values[camera.key]
            stamp_s = stamps_s[camera.key]
            exposures_s[camera.view] = (start_s if stamp_s is None else stamp_s) - camera.delay_s
        sample = Observation(state, self._prompt, 0, min(exposures_s.values()), images)
        self._exposures_s = exposures_s
        return sample

    def _frame_stamp_s(self, key: str) -> float | None:
        """When the camera's thread got its newest frame, our clock; None if the camera does not say.

        Asked before the frame is taken, so that a frame is never taken for newer than it is.
        """
        camera = getattr(self._robot, "cameras", {}).get(key)
        stamp_s = getattr(camera, "latest_timestamp", None)  # time.perf_counter() in LeRobot's cameras
        return None if stamp_s is None else stamp_s + self._clock_offset_s
