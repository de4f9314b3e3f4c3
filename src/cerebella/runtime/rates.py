"""Two rates on one clock: which tick of the policy, and where in it, a control tick belongs to. Exact for any ratio."""

from fractions import Fraction


class Rates:
    """Control ticks 0, 1, 2, ... on the time axis of the policy's ticks.

    Args:
        policy_hz: rate of the rows of a chunk. control_hz: rate of the commands, at least as high.

    Raises:
        ValueError: a rate that is not above 0, or control_hz below policy_hz.
    """

    def __init__(self, policy_hz: float, control_hz: float) -> None:
        if not 0 < policy_hz <= control_hz:
            raise ValueError(f"need 0 < policy_hz <= control_hz; got {policy_hz:g} and {control_hz:g}")
        self._ratio = Fraction(policy_hz).limit_denominator(10_000) / Fraction(control_hz).limit_denominator(10_000)

    def locate(self, control_tick: int) -> tuple[int, float]:
        """(tick, phase) of a control tick: it lies at `tick + phase` policy ticks, 0 <= phase < 1."""
        position = control_tick * self._ratio
        tick = position.numerator // position.denominator
        return tick, float(position - tick)
