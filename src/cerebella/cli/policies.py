"""`cerebella convert` and `cerebella push`: a policy in another layout, and on a hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cerebella.cli.output import check_json, write_json

Layout = Literal["policy", "released"]


@dataclass(frozen=True)
class Convert:
    """Write a policy in our layout or in the released one. The weights stay the same numbers.

    The source may be a policy directory, a released directory, or owner/name on a hub. Nothing that exists is overwritten.
    """

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """what to read"""
    destination: Annotated[Positional[Path], arg(metavar="DIR")]
    """a new or empty directory"""
    layout: Layout
    """policy: one robot type, everything that a run needs. released: what AutoModel and AutoProcessor read"""
    robot_type: str | None = None
    """which of a released checkpoint's robot types; needed where it has several"""
    embodiment: Path | None = None
    """JSON file that describes the robot; needed for a robot type that is not one of the released ones"""
    revision: str | None = None
    """branch, tag or commit of a source on a hub"""
    json: Path | None = None
    """write the paths as JSON to this file"""

    def run(self) -> int:
        """Print the files that were written."""
        check_json(self.json)
        if self.destination.exists() and (not self.destination.is_dir() or any(self.destination.iterdir())):
            raise ValueError(f"{self.destination} exists already; give a new or empty directory")
        from cerebella.embodiment import Embodiment
        from cerebella.models.checkpoint import stored_dtype
        from cerebella.policies.directory import load_policy, save_as_policy
        from cerebella.policies.hub import fetch
        from cerebella.policies.layout import layout_of
        from cerebella.policies.released import save_released

        folder = fetch(self.source, self.revision)
        if self.layout == layout_of(folder) == "policy":
            raise ValueError(f"{self.source} has that layout already; a copy would lose how it was made")
        robot = None if self.embodiment is None else Embodiment.load(self.embodiment)
        dtype = stored_dtype(folder)
        policy = load_policy(folder, embodiment=robot, robot_type=self.robot_type, dtype=dtype)
        save = save_released if self.layout == "released" else save_as_policy
        save(policy, self.destination, dtype)
        written = sorted(str(path) for path in self.destination.iterdir())
        write_json(self.json, {"source": self.source, "layout": self.layout, "files": written})
        for path in written:
            print(f"wrote {path}")
        return 0


@dataclass(frozen=True)
class Push:
    """Upload a policy directory, or one in the released layout, to a model hub as one commit.

    Everything is checked first; a repository that does not exist is created. Log in with `hf auth login`, or set
    HF_TOKEN. Prints the address of the commit.
    """

    directory: Annotated[Positional[Path], arg(metavar="DIR")]
    """what to upload"""
    name: Annotated[Positional[str], arg(metavar="OWNER/NAME")]
    """the repository on the hub"""
    revision: str | None = None
    """a branch, created if it does not exist; main if left out"""
    private: bool = False
    """create the repository as a private one"""
    message: str = "Upload a policy"
    """message of the commit"""
    json: Path | None = None
    """write address and files as JSON to this file"""

    def run(self) -> int:
        """Print the address of the commit."""
        check_json(self.json)
        from cerebella.policies.hub import push
        from cerebella.policies.layout import publishable_files

        files = publishable_files(self.directory)
        address = push(self.directory, self.name, self.revision, self.private, self.message)
        write_json(self.json, {"commit": address, "repository": self.name, "files": files})
        print(f"wrote {address}")
        return 0
