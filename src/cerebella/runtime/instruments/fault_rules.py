"""The script of a fault proxy: which units of a stream go wrong, and how. No sockets here."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cerebella.runtime.instruments.framing import Unit

Fault = Literal[
    "delay", "drop", "duplicate", "reorder", "truncate", "corrupt", "oversize", "half open", "reset", "close"
]
Direction = Literal["to server", "to client"]
Cut = Literal["half open", "reset", "close"]
FAULTS: tuple[str, ...] = get_args(Fault)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Rule:
    """One line of the script.

    Args:
        fault: what happens to a unit.
            `delay`: comes `seconds` after it arrived; what is behind it does not overtake.
            `drop`: never comes. `duplicate`: comes twice. `reorder`: comes behind the next one.
            `truncate`: only its first `num_bytes` come. `corrupt`: one bit flips in `num_bytes` random places.
            `oversize`: grows to `num_bytes`, with zeros.
            `half open`: from this unit on nothing comes, in both directions, and the sockets stay open.
            `reset`: the connection is cut by a TCP reset. `close`: it is closed in an orderly way.
        direction: of the units that it applies to.
        probability: with which it hits, 0..1.
        first: so many units of this direction pass before, counted from `set_rules` on, over all connections.
        count: it hits at most so often; None: for ever.
        seconds: of `delay`; or a function from the number of the unit (a `LatencyTrace` is one).
        num_bytes: see above.
    """

    fault: Fault
    direction: Direction
    probability: float = 1.0
    first: int = 0
    count: int | None = None
    seconds: float | Callable[[int], float] = 0.0
    num_bytes: int = 0

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"unknown fault {self.fault!r}; known faults: {', '.join(FAULTS)}")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"unknown direction {self.direction!r}; known directions: {', '.join(DIRECTIONS)}")
        if not 0.0 <= self.probability <= 1.0 or self.first < 0 or (self.count is not None and self.count < 0):
            raise ValueError(f"need probability in 0..1, first >= 0, count >= 0 or None; got {self}")
        if (self.fault in ("corrupt", "oversize")) != (self.num_bytes > 0) and self.fault != "truncate":
            raise ValueError(f"num_bytes is for corrupt, oversize and truncate; got {self}")
        if (self.fault == "delay") != (callable(self.seconds) or self.seconds > 0):
            raise ValueError(f"seconds is for delay, and above 0 there; got {self}")


@dataclass
class Passage:
    """What becomes of one unit, and of the connection that it is on."""

    unit: Unit
    num_copies: int = 1
    delay_s: float = 0.0
    is_held_back: bool = False
    cut: Cut | None = None
    faults: tuple[Fault, ...] = ()

    def encode(self) -> bytes:
        """The bytes that go on."""
        return self.unit.encode() * self.num_copies


class Script:
    """Rules with their counters."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._num_hits = [0] * len(rules)
        self._num_seen: Counter[Direction] = Counter()

    def judge(self, unit: Unit, direction: Direction, generator: random.Random) -> Passage:
        """Every rule that hits, in order."""
        number = self._num_seen[direction]
        self._num_seen[direction] += 1
        passage = Passage(unit)
        for index, rule in enumerate(self._rules):
            is_over = rule.count is not None and self._num_hits[index] >= rule.count
            if rule.direction != direction or number < rule.first or is_over or generator.random() >= rule.probability:
                continue
            self._num_hits[index] += 1
            passage.faults += (rule.fault,)
            _apply(rule, passage, number, generator)
        return passage


def _apply(rule: Rule, passage: Passage, number: int, generator: random.Random) -> None:
    payload = passage.unit.payload
    match rule.fault:
        case "delay":
            passage.delay_s += rule.seconds(number) if callable(rule.seconds) else rule.seconds
        case "drop":
            passage.num_copies = 0
        case "duplicate":
            passage.num_copies *= 2
        case "reorder":
            passage.is_held_back = True
        case "truncate":
            payload = payload[: rule.num_bytes]
        case "corrupt":
            mangled = bytearray(payload)
            for _ in range(rule.num_bytes if mangled else 0):
                mangled[generator.randrange(len(mangled))] ^= 1 << generator.randrange(8)
            payload = bytes(mangled)
        case "oversize":
            payload += bytes(max(0, rule.num_bytes - len(payload)))
        case "half open" | "reset" | "close":
            passage.cut = rule.fault
    passage.unit = replace(passage.unit, payload=payload)
