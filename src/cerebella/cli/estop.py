"""`cerebella estop`: look at a robot's emergency stop, latch it, and release it in the name of a person."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cerebella.cli.errors import EXIT_FAILED_CHECK
from cerebella.runtime.emergency_stop import EmergencyStop, ResetRefused, StopRecord, default_folder


@dataclass(frozen=True)
class EStop:
    """Look at, latch or reset the emergency stop of a robot. `status` ends with exit code 1 if it is latched."""

    action: Annotated[Positional[Literal["status", "latch", "reset"]], arg(metavar="status|latch|reset")]
    """status: what has latched it, and its history; latch: stop the robot; reset: release it"""
    robot: str | None = None
    """name of the robot; its state lies in $XDG_STATE_HOME/cerebella/ROBOT (by default ~/.local/state/cerebella/ROBOT)"""
    state: Path | None = None
    """the state folder itself, instead of a robot's name"""
    operator: str = ""
    """who resets, or latches; a reset needs it"""
    reason: str = ""
    """why; written into the history"""
    num_lines: int = 10
    """status: so many of the newest lines of the history"""

    def run(self) -> int:
        """Print where it stands afterwards."""
        if (self.robot is None) == (self.state is None):
            raise ValueError("say which robot: either --robot NAME or --state DIR")
        folder = self.state if self.state is not None else default_folder(self.robot or "")
        if self.action == "status" and not folder.exists():
            raise ValueError(f"there is no state of a robot in {folder}; it is made when the robot is first run")
        with EmergencyStop(folder) as emergency_stop:
            if self.action == "latch":
                emergency_stop.latch("operator", " ".join(filter(None, [self.operator, self.reason])) or "command line")
            if self.action == "reset":
                try:
                    emergency_stop.reset(self.operator, self.reason)
                except ResetRefused as refusal:
                    print(f"refused: {refusal}", file=sys.stderr)
            is_latched = emergency_stop.is_latched
            print(f"{'LATCHED' if is_latched else 'released'}  {emergency_stop.path}")
            if self.action == "status" or is_latched:
                for record in emergency_stop.history()[-self.num_lines :]:
                    print(f"  {_describe(record)}")
        return EXIT_FAILED_CHECK if is_latched and self.action != "latch" else 0


def _describe(record: StopRecord) -> str:
    return f"{record.time}  {record.event:<10}  {record.by}  {record.reason}".rstrip()
