"""What a recording says at its beginning: who ran, how, and on what. Enough to build the same executor again."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cerebella.embodiment import Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.runtime.executor_config import ExecutorConfig

FORMAT_VERSION = 1
"""Raised when an older reader would misunderstand a file."""


@dataclass(frozen=True)
class Header:
    """Who ran, how, and on what.

    Args:
        metadata: of the policy, embodiment included (rates, limits).
        config: of the executor, mode included.
        delay_estimator: its settings and samples when the recording began (`construction.delay_settings`).
        camera_check: its settings; None without one.
        run: whatever else says what was run: seed, environment, commit, machine; plain JSON values.
        versions: of Python and of the packages that decide numbers.
        started_utc: ISO 8601.
    """

    metadata: PolicyMetadata
    config: ExecutorConfig
    delay_estimator: Mapping[str, Any]
    camera_check: Mapping[str, Any] | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: _versions())
    started_utc: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def to_json(self) -> str:
        """JSON text."""
        names = ("delay_estimator", "camera_check", "run", "versions", "started_utc")
        content = {name: getattr(self, name) for name in names}
        metadata = {f.name: getattr(self.metadata, f.name) for f in fields(PolicyMetadata) if f.name != "embodiment"}
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "metadata": {**metadata, "embodiment": self.metadata.embodiment.to_dict()},
                "config": asdict(self.config),
                **content,
            }
        )

    @classmethod
    def from_json(cls, text: str, source: str) -> "Header":
        """What `to_json` gave; `source` says in errors where it came from.

        Raises:
            ValueError: another format version, or a field is missing, unknown or out of range.
        """
        try:
            content = json.loads(text)
            found = content.pop("format_version")
            if found != FORMAT_VERSION:
                raise ValueError(f"format version {found}; this program reads version {FORMAT_VERSION}")
            metadata = dict(content.pop("metadata"))
            embodiment = Embodiment.from_dict(metadata.pop("embodiment"), "its embodiment")
            config = ExecutorConfig(**content.pop("config"))
            return cls(metadata=PolicyMetadata(embodiment=embodiment, **metadata), config=config, **content)
        except (KeyError, TypeError, ValueError) as error:
            what = f"the field {error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{source}: the header cannot be used: {what}") from error


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("cerebella", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its sources
            found[name] = "not installed"
    return found
