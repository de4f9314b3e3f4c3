"""`cerebella serve` as it is, with a policy that moves: `python sway_server.py hold --embodiment FILE --policy-id NAME ...`."""

import sys
from dataclasses import dataclass

import tyro

from cerebella.cli.serve import Serve
from cerebella.embodiment import Embodiment
from cerebella.runtime.instruments.sway import SwayPolicy


@dataclass(frozen=True)
class ServeSway(Serve):
    """Everything of `cerebella serve`, except for where the policy comes from."""

    policy_id: str = "sway"
    """who the policy says that it is"""
    infer_s: float = 0.02
    """seconds that an answer takes"""

    def _policy(self) -> SwayPolicy:
        assert self.embodiment is not None
        return SwayPolicy(Embodiment.load(self.embodiment), self.horizon, self.policy_id, self.infer_s)


if __name__ == "__main__":
    sys.exit(tyro.cli(ServeSway).run())
