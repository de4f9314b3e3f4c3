from enum import Enum


class SignalHandlerOptions(Enum):
    NO = 0
    ALL = 3
