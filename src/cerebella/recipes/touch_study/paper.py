"""What the paper reports (TacRefineNet, arXiv 2509.25746, second version): its grades, rates and numbers of trials."""

from collections.abc import Mapping
from dataclasses import dataclass

from cerebella.evaluation.statistics import wilson_interval
from cerebella.recipes.touch_study.summary import GRADES


@dataclass(frozen=True)
class Reported:
    """Rates of one row, 0..1, in the order of the first three of `GRADES`; `num_trials` is None where it is not known."""

    what: str
    goal: str
    rates: tuple[float, float, float]
    num_trials: int | None

    def rate(self, grade: str) -> float | None:
        """None for a grade that the paper does not have."""
        place = list(GRADES).index(grade)
        return self.rates[place] if place < len(self.rates) else None

    def interval(self, grade: str) -> tuple[float, float] | None:
        """Wilson's 95 %, computed here from rate and number of trials; None where either is not known."""
        rate = self.rate(grade)
        if rate is None or self.num_trials is None:
            return None
        return wilson_interval(round(rate * self.num_trials), self.num_trials)


SIMULATION = Reported("the paper, simulation", "fixed", (0.995, 0.989, 0.972), None)
HARDWARE: Mapping[str, Reported] = {
    "fixed": Reported("the paper, hardware", "fixed", (0.807, 0.613, 0.260), 150),
    "random": Reported("the paper, hardware", "random", (0.593, 0.447, 0.220), 150),
}
UNSEEN: Mapping[str, tuple[float, int]] = {"fixed": (0.367, 30), "random": (0.133, 30)}
"""Hardware, objects that were not trained, at 10 deg / 10 mm: (rate, trials)."""
DIRECT_RATE, ABSOLUTE_RATE = 0.859, 0.541
"""Simulation: the direct increment, and the difference of two estimated poses; the paper's grade is not known to us."""
