from typing import Any, ClassVar

from stub_message import Message  # pyright: ignore[reportMissingImports]


class Time(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"sec": int, "nanosec": int}


class Duration(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"sec": int, "nanosec": int}
