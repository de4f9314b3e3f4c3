from typing import Any, ClassVar

from builtin_interfaces.msg import Time  # pyright: ignore[reportMissingImports]
from stub_message import Message  # pyright: ignore[reportMissingImports]


class Header(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"stamp": Time, "frame_id": str}


class MultiArrayLayout(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"data_offset": int}


class Float64MultiArray(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"layout": MultiArrayLayout, "data": (float,)}
