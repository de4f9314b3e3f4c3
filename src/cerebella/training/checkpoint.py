"""Checkpoints that survive a kill at any moment, and may be loaded by another number of processes.

    run/
      newest                                 the name of the one to resume from; edit it to go back to an older one
      00000007-stage-1-step-1500/            complete, because it has its name
        manifest.json                        position, run, size and CRC-32 of every file
        extra.pt                             what the trainer wants back (RNG, data cursor, ...)
        state/                               weights and optimiser state, torch.distributed.checkpoint
      00000008-stage-1-step-2000.new/        half written; never read, removed by the next save

A checkpoint is written under a name that ends with `.new`, flushed to the disk, renamed, and only then becomes `newest`.
All processes must see the same directory.
"""

import io
import json
import logging
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor

from cerebella.training.durable_files import MANIFEST, fault_of, fingerprints, flush, write_durably

logger = logging.getLogger(__name__)

NAME = re.compile(r"^\d{8}(-\w+)*$")


class Found(TypedDict):
    """What `CheckpointStore.newest` found: where the run was, and what else the trainer wanted to have back."""

    position: dict[str, int | str]
    extra: dict[str, Any]
    path: Path


class CheckpointStore:
    """The checkpoints of one run. Every process of the run makes one and calls the same methods in the same order.

    Args:
        directory: made if it does not exist.
        keep: how many of the newest good checkpoints stay.
        asynchronous: `save` returns when the tensors are copied to the main memory; writing goes on in a thread. The
            next call of any method waits for it, and raises what went wrong there.
        run: settings (JSON) that a checkpoint must have been made with to be resumed, e.g. stages, seed, precision.

    Raises:
        ValueError: keep is below 1.
    """

    def __init__(
        self, directory: Path, keep: int = 2, asynchronous: bool = False, run: Mapping[str, Any] | None = None
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be 1 or more checkpoints; got {keep}")
        self.directory, self.keep, self.run = directory, keep, json.loads(json.dumps(run or {}))
        directory.mkdir(parents=True, exist_ok=True)
        self._is_distributed = dist.is_available() and dist.is_initialized()
        self._is_main = not self._is_distributed or dist.get_rank() == 0
        # Of its own, so that a save in the background does not mix with the collectives of training.
        self._group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if self._is_distributed else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if asynchronous else None
        self._pending: Future[None] | None = None
        self._damaged: set[str] = set()

    def save(
        self,
        position: Mapping[str, int | str],
        modules: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        extra: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint and make it the newest; older ones beyond `keep` go.

        Args:
            position: where the run is, e.g. stage and step; part of the name.
            optimizer: None where the next stage makes a new one.
            extra: of rank 0, the same for all ranks on the way back: numbers, strings, tensors, lists, dicts of them.

        Returns:
            The directory; complete now, or with `asynchronous` after the next call or `wait`.

        Raises:
            ValueError: position or extra cannot be stored.
            OSError: writing failed; what was there before is still whole.
        """
        self.wait()
        name = self._agree(self._next_name(position) if self._is_main else "")
        packed, state = _packed(extra), _state_of(modules, optimizer)
        manifest = {"position": dict(position), "run": self.run, "has_optimizer": optimizer is not None}
        if self._thread is None:
            self._write(name, state, packed, manifest)
        else:
            staged = DefaultStager(StagingOptions(False, False, False, False)).stage(state)
            assert isinstance(staged, dict)
            self._pending = self._thread.submit(self._write, name, staged, packed, manifest)
        return self.directory / name

    def newest(self) -> Found | None:
        """The position and extra of the checkpoint to resume from; None if there is none.

        The one that the file `newest` names comes first, then the others from new to old. One that is damaged is
        skipped with a warning that names the file.

        Raises:
            ValueError: the checkpoint was made with another `run`; says which settings differ.
        """
        self.wait()
        name = self._agree(self._newest_good() if self._is_main else "")
        if not name:
            return None
        manifest = json.loads((self.directory / name / MANIFEST).read_text())
        if manifest["run"] != self.run:
            raise ValueError(
                f"{self.directory / name} belongs to another run: {_difference(manifest['run'], self.run)}; choose "
                "another directory or delete it"
            )
        extra = torch.load(self.directory / name / "extra.pt", weights_only=True)
        return Found(position=manifest["position"], extra=extra, path=self.directory / name)

    def load(self, modules: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        """Weights and optimiser state of the newest good checkpoint, in place, whatever number of ranks wrote it.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it belongs to another run or another model, or holds no optimiser state.
        """
        found = self.newest()
        if found is None:
            raise FileNotFoundError(f"{self.directory} holds no checkpoint")
        manifest = json.loads((found["path"] / MANIFEST).read_text())
        if optimizer is not None and not manifest["has_optimizer"]:
            raise ValueError(f"{found['path']} was saved without an optimiser; load it with optimizer=None")
        if optimizer is not None:
            optimizer.state.clear()
        state, reader = _state_of(modules, optimizer), FileSystemReader(found["path"] / "state")
        moments = state["optimizer"]["state"] if optimizer is not None else {}
        # A parameter that never had a gradient has no moments, but the ones to be filled here are there for all.
        stored = reader.read_metadata().state_dict_metadata
        missing = [name for name in moments if not any(key.startswith(f"optimizer.state.{name}.") for key in stored)]
        unused = {name: moments.pop(name) for name in missing}
        try:
            with _without_single_process_warning():
                state_dict_loader.load(
                    state, storage_reader=reader, process_group=self._group, no_dist=not self._is_distributed
                )
        except CheckpointException as error:
            raise ValueError(f"{found['path']} does not fit this model: {_reasons(error)}") from error
        moments |= unused
        set_state_dict(
            modules,
            () if optimizer is None else optimizer,
            model_state_dict=state["modules"],
            optim_state_dict=state.get("optimizer", {}),
        )
        if optimizer is not None:
            parameters = dict(modules.named_parameters(remove_duplicate=False))
            for name in unused:
                del optimizer.state[parameters[name]]

    def wait(self) -> None:
        """Return when nothing is being written; raises what went wrong while it was."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _agree(self, word: str) -> str:
        """The main process's word, on every process."""
        if not self._is_distributed:
            return word
        words = [word]
        dist.broadcast_object_list(words, src=0, group=self._group)
        return words[0]

    def _names(self) -> list[str]:
        """Complete checkpoints, oldest first."""
        return sorted(path.name for path in self.directory.iterdir() if path.is_dir() and NAME.match(path.name))

    def _next_name(self, position: Mapping[str, int | str]) -> str:
        serial = int(names[-1][:8]) + 1 if (names := self._names()) else 1
        name = "-".join([f"{serial:08d}", *(f"{key}-{value}" for key, value in position.items())])
        if not NAME.match(name):
            raise ValueError(f"position {dict(position)} cannot be part of a file name; use letters, digits and _")
        for leftover in self.directory.glob("*.new"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        return name

    def _write(self, name: str, state: dict[str, Any], extra: bytes, manifest: dict[str, Any]) -> None:
        """On every process; the main one gives the directory its name when all of them have written."""
        folder = self.directory / f"{name}.new"
        try:
            with _without_single_process_warning():
                state_dict_saver.save(
                    state,
                    storage_writer=FileSystemWriter(folder / "state", sync_files=True),
                    process_group=self._group,
                    no_dist=not self._is_distributed,
                )
        except CheckpointException as error:
            raise OSError(f"{folder} could not be written: {_reasons(error)}") from error
        if not self._is_main:
            return
        (folder / "extra.pt").write_bytes(extra)
        manifest["files"] = fingerprints(folder)
        write_durably(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for path in (folder / "extra.pt", folder / "state", folder):
            flush(path)
        os.rename(folder, self.directory / name)
        flush(self.directory)
        write_durably(self.directory / "newest", name + "\n")
        good = [other for other in self._names() if other not in self._damaged]
        for old in {*good[: -self.keep], *self._damaged}:
            # Out of sight first: a kill in the middle of a removal must not leave half a checkpoint under its name.
            os.rename(self.directory / old, self.directory / f"{old}.new")
            shutil.rmtree(self.directory / f"{old}.new")
        self._damaged.clear()

    def _newest_good(self) -> str:
        names = self._names()[::-1]
        pointer = self.directory / "newest"
        first = pointer.read_text().strip() if pointer.is_file() else ""
        if first in names:
            names = [first, *(name for name in names if name != first)]
        for name in names:
            if not (fault := fault_of(self.directory / name)):
                return name
            self._damaged.add(name)
            logger.warning("skipped the checkpoint %s: %s", self.directory / name, fault)
        return ""


def export_full(modules: nn.Module) -> dict[str, Tensor]:
    """Names and whole tensors of everything in the modules' state dict, in main memory, on rank 0; elsewhere empty.

    Call it on every rank: the pieces are collected tensor by tensor.
    """
    is_main = not dist.is_initialized() or dist.get_rank() == 0
    whole = {}
    for name, value in modules.state_dict().items():
        tensor = value.full_tensor() if isinstance(value, DTensor) else value
        if is_main:
            whole[name] = tensor.detach().cpu().clone()
    return whole


def _state_of(modules: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Tensors by parameter name, optimiser state too, so that neither order nor number of ranks matters."""
    weights, moments = get_state_dict(modules, () if optimizer is None else optimizer)
    return {"modules": weights} if optimizer is None else {"modules": weights, "optimizer": moments}


def _packed(extra: Mapping[str, Any]) -> bytes:
    """A file's content that can be read back without running code from it; tried out here rather than on resuming."""
    buffer = io.BytesIO()
    try:
        torch.save(dict(extra), buffer)
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise ValueError(
            f"extra ({', '.join(extra)}) may hold numbers, strings, tensors, and lists and dicts of them: {error}"
        ) from error
    return buffer.getvalue()


def _reasons(error: CheckpointException) -> str:
    return "; ".join(sorted({str(reason) for reason, _ in error.failures.values()}))


def _difference(theirs: Any, ours: Any, where: str = "") -> str:
    """Where two JSON values differ first, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in {**theirs, **ours}:
            if theirs.get(key) != ours.get(key):
                return _difference(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key)
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            if one != other:
                return _difference(one, other, f"{where}[{index}]")
    return f"{where or 'run'} is {json.dumps(theirs)} there and {json.dumps(ours)} here"


@contextmanager
def _without_single_process_warning() -> Iterator[None]:
    """One process is what we want where it is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield
