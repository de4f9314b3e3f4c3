from dataclasses import dataclass
from enum import Enum


class ReliabilityPolicy(Enum):
    RELIABLE = 1
    BEST_EFFORT = 2


class HistoryPolicy(Enum):
    KEEP_LAST = 1
    KEEP_ALL = 2


class DurabilityPolicy(Enum):
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


@dataclass(kw_only=True)
class QoSProfile:
    history: HistoryPolicy
    depth: int
    reliability: ReliabilityPolicy
    durability: DurabilityPolicy
