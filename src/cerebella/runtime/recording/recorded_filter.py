"""An `ActionFilter` whose answers are recorded, and one that gives recorded answers."""

from collections import deque
from collections.abc import Iterable

from cerebella.interfaces import ActionFilter, Takeover
from cerebella.runtime.recording.recorder import Recorder
from cerebella.types import Action, Observation


class RecordedFilter:
    """Put around the filter of a run that is recorded: what it answers comes from outside, so a replay needs it."""

    def __init__(self, inner: ActionFilter, recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        """The inner filter's answer."""
        answer = self._inner.filter(observation, action)
        self._recorder.filtered(action.tick, answer)
        return answer


class ReplayFilter:
    """Gives recorded answers in their order."""

    def __init__(self, answers: Iterable[Action | Takeover]) -> None:
        self._answers = deque(answers)

    def filter(self, observation: Observation, action: Action) -> Action | Takeover:
        """The next answer; the action itself when there is none left."""
        return self._answers.popleft() if self._answers else action
