from typing import Any, ClassVar

from std_msgs.msg import Header  # pyright: ignore[reportMissingImports]
from stub_message import Message  # pyright: ignore[reportMissingImports]


class JointState(Message):
    FIELDS: ClassVar[dict[str, Any]] = {
        "header": Header,
        "name": (str,),
        "position": (float,),
        "velocity": (float,),
        "effort": (float,),
    }


class Image(Message):
    FIELDS: ClassVar[dict[str, Any]] = {
        "header": Header,
        "height": int,
        "width": int,
        "encoding": str,
        "is_bigendian": int,
        "step": int,
        "data": (bytes,),
    }


class CompressedImage(Message):
    FIELDS: ClassVar[dict[str, Any]] = {"header": Header, "format": str, "data": (bytes,)}
