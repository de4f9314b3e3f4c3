"""What to do with a reply: the table of late answers, as a pure function."""

from typing import Literal

Decision = Literal["in time", "close", "bridge", "discard"]


def decide(
    consumed: float,
    promised_delay: int,
    num_promised: int,
    mismatch: float,
    tolerance: float,
    is_covered: bool,
    num_discards: int,
    max_discards: int,
) -> Decision:
    """How a chunk takes over.

    | the rows r consumed since its observation        | the plan still lasts | decision |
    |--------------------------------------------------|----------------------|----------|
    | at most the p promised ones                      | -                    | in time  |
    | more, but the chunk agrees with what was sent    | -                    | close    |
    | more than p, as foreseen (r <= d)                | -                    | bridge   |
    | more than foreseen, and it disagrees             | yes                  | discard  |
    | more than foreseen, and it disagrees             | no                   | bridge   |

    A bridge is the motion within the limits from the old plan to the new one. `discard` asks again with the newest
    observation and a longer delay; after `max_discards` in a row a reply is used whatever it is, so that there is always
    progress.

    Args:
        consumed: r, rows. promised_delay: d, ticks. num_promised: p, rows.
        mismatch: largest difference between the chunk's missed rows and what was sent instead, in ticks of motion at
            full velocity. tolerance: how much of it is close, same unit.
        is_covered: the running plan lasts for another inference and a stop.
        num_discards: replies discarded in a row so far.
    """
    if consumed <= num_promised:
        return "in time"
    if mismatch <= tolerance:
        return "close"
    if consumed <= promised_delay or not is_covered or num_discards >= max_discards:
        return "bridge"
    return "discard"
