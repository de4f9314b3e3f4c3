"""The first frame of the native dialect: what a server says about itself, and how a client reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.serving.errors import WireError

PROTOCOL = "cerebella-openpi"
PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class Handshake:
    """A server's first frame.

    Args:
        metadata: of its policy. server_id: changes with every start; None for a server that is not ours.
    """

    metadata: PolicyMetadata
    server_id: str | None

    def differences(self, other: "Handshake") -> list[str]:
        """What another server (or the same one after a restart) has that this one had not, in words."""
        ours, theirs = (_facts(handshake.metadata) for handshake in (self, other))
        return [
            f"{name} was {_short(ours[name])}, is {_short(theirs[name])}" for name in ours if ours[name] != theirs[name]
        ]


def describe(metadata: PolicyMetadata, server_id: str) -> dict[str, Any]:
    """The part of the first frame that `read_handshake` needs; plain types."""
    return {
        "protocol": PROTOCOL,
        "protocol_version": PROTOCOL_VERSION,
        "server_id": server_id,
        **_facts(metadata),
        "policy_hz": metadata.embodiment.policy_hz,
        "control_hz": metadata.embodiment.control_hz,
    }


def read_handshake(fields: object) -> Handshake:
    """What `describe` wrote.

    Raises:
        WireError: something is missing or of a wrong type, or a newer protocol version.
    """
    if not isinstance(fields, Mapping) or fields.get("protocol") != PROTOCOL:
        raise WireError(f"the server's first frame does not say protocol {PROTOCOL!r}: it is another kind of server")
    if fields.get("protocol_version") != PROTOCOL_VERSION:
        raise WireError(
            f"the server speaks version {str(fields.get('protocol_version'))[:20]} of {PROTOCOL}; this client {PROTOCOL_VERSION}"
        )
    embodiment = fields.get("embodiment")
    if not isinstance(embodiment, Mapping):
        raise WireError("the server's first frame has no embodiment")
    types: dict[str, type | tuple[type, ...]] = {
        "policy_id": str,
        "horizon": int,
        "mask_variant": (str, type(None)),
        "max_trained_prefix": int,
        "statistics_hash": str,
        "supports_guidance": bool,
    }
    for name, kind in types.items():
        if not isinstance(fields.get(name), kind):
            raise WireError(f"the server's first frame has no valid {name}: {str(fields.get(name))[:40]!r}")
    if fields["horizon"] < 1 or not 0 <= fields["max_trained_prefix"] < fields["horizon"]:
        raise WireError(f"horizon {fields['horizon']} and prefix {fields['max_trained_prefix']} do not fit")
    try:
        robot = Embodiment.from_dict(embodiment, "the server's first frame")
    except ValueError as error:
        raise WireError(str(error)) from error
    metadata = PolicyMetadata(embodiment=robot, **{name: fields[name] for name in types})
    server_id = fields.get("server_id")
    return Handshake(metadata, server_id if isinstance(server_id, str) else None)


def _facts(metadata: PolicyMetadata) -> dict[str, Any]:
    return {
        "policy_id": metadata.policy_id,
        "statistics_hash": metadata.statistics_hash,
        "horizon": metadata.horizon,
        "max_trained_prefix": metadata.max_trained_prefix,
        "mask_variant": metadata.mask_variant,
        "supports_guidance": metadata.supports_guidance,
        "embodiment": metadata.embodiment.to_dict(),
    }


def _short(value: object) -> str:
    return f"{value['name']} ({len(value['actions'])} actions)" if isinstance(value, dict) else str(value)
