"""Messages as rosidl generates them for Python: keyword arguments only, checked types, values when nothing is given."""

from typing import Any, ClassVar


class Message:
    """Base of the message classes; `FIELDS` maps a name to a type, or to (element type,) for an array."""

    FIELDS: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        for name, kind in self.FIELDS.items():
            setattr(self, name, [] if isinstance(kind, tuple) else kind())
        for name, value in values.items():
            assert name in self.FIELDS, f"{type(self).__name__} has no field {name!r}"
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.FIELDS[name]
        if kind == (bytes,):
            assert isinstance(value, bytes | bytearray | list), (name, value)
        elif isinstance(kind, tuple):
            assert all(isinstance(entry, kind[0]) for entry in value), (name, value)
        else:
            assert isinstance(value, kind), (name, value)
        super().__setattr__(name, value)
