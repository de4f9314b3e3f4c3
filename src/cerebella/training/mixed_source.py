"""A mixture of data sets as the data of a stage: decoded ahead, encoded robot by robot, joined."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby

from cerebella.batch import Batch
from cerebella.data.loader import FaultReport, Loader, MixedBatch, OnFault
from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.sources import RobotGroup
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.join import join
from cerebella.processing.processor import Processor
from cerebella.training.sources import StepRequest, TrainingBatch
from cerebella.types import Sample


class MixedSource:
    """A `StepSource` over a `MixtureSpec`. Resuming needs nothing: a step's data follow from the request. `close` it.

    Every step, process and micro-batch has exactly the numbers of windows and conversations that the stage says, so
    `vl_ratio` must be num_conversations / batch_size; only the robots' shares among the windows follow running totals.

    Args:
        spec: its seed is joined with that of the request. `num_lanes` must be a multiple of processes x micro-batches.
        processors: for every robot type and control mode in the mixture, all of one model.
        conversation_processor: needed with vision-language sources.
        num_workers, on_fault: see `Loader`.

    Raises:
        ValueError: a robot type and control mode without a processor, or conversations without one.
    """

    def __init__(
        self,
        spec: MixtureSpec,
        processors: Mapping[RobotGroup, Processor],
        conversation_processor: ConversationProcessor | None = None,
        num_workers: int = 2,
        on_fault: OnFault = "raise",
    ) -> None:
        groups = {source.group for source in spec.sources}
        if missing := [group for group in groups if group is not None and group not in processors]:
            known = ", ".join("/".join(group) for group in processors) or "none"
            raise ValueError(f"no processor for {'/'.join(missing[0])}; processors: {known}")
        if None in groups and conversation_processor is None:
            raise ValueError("the mixture has vision-language sources; it needs a conversation_processor")
        self.spec, self.processors, self.conversation_processor = spec, processors, conversation_processor
        self.num_workers, self.report = num_workers, FaultReport()
        self.on_fault: OnFault = on_fault
        self._loader: Loader | None = None
        self._loads: tuple[object, ...] = ()

    def draw(self, request: StepRequest) -> list[TrainingBatch]:
        """See `StepSource`.

        Raises:
            ValueError: another share of conversations than the mixture's, or lanes that do not divide. DataFault: data
                that cannot be read (with `on_fault="raise"`).
        """
        parts = next(self._at(request)).split(request.num_micro_batches)
        first = sum(len(part.samples) for part in parts) * request.world.rank
        batches = []
        for part in parts:
            batches.append(self._encode(part, first))
            first += len(part.samples)
        return batches

    def close(self) -> None:
        """End the worker threads."""
        if self._loader is not None:
            self._loader.close()
            self._loader = None

    def _at(self, request: StepRequest) -> Loader:
        """The loader that gives the requested step next; a new one where another stage begins or a run resumes."""
        stage, world = request.stage, request.world
        batch_size = stage.batch_size + stage.num_conversations
        wanted = (batch_size, request.seed, world.rank, world.size)
        if self._loader is None or self._loads != wanted or self._loader.step != request.step:
            self.close()
            seed = hashlib.sha256(repr((self.spec.seed, request.seed)).encode()).digest()
            mixture = Mixture(replace(self.spec, seed=int.from_bytes(seed[:4], "big")), batch_size)
            self._check(stage.name, stage.num_conversations, mixture)
            cursor: dict[str, int | str] = {"step": request.step, "mixture": mixture.fingerprint}
            self._loader = Loader(mixture, world.rank, world.size, self.num_workers, self.on_fault, cursor)
            self._loader.report, self._loads = self.report, wanted
        return self._loader

    def _check(self, stage: str, num_conversations: int, mixture: Mixture) -> None:
        """Exactly: a mixture that only comes close drifts from the stage, and some steps would have no conversation."""
        is_talk = [source.group is None for source in self.spec.sources]
        given = float(mixture.shares[is_talk].sum()) * mixture.batch_size
        if abs(num_conversations - given) > 1e-6 * mixture.batch_size:
            batch_size = mixture.batch_size - num_conversations
            raise ValueError(
                f"stage {stage!r} wants {num_conversations} conversations among {mixture.batch_size} rows; the mixture "
                f"gives {given:.2f}. Change vl_ratio (here it must be {num_conversations} / {batch_size}), batch_size or "
                "num_conversations"
            )
        if num_conversations % self.spec.num_lanes:
            raise ValueError(
                f"stage {stage!r}: num_conversations {num_conversations} must be a multiple of the {self.spec.num_lanes} "
                "lanes of the mixture, as every lane gets as many"
            )

    def _encode(self, part: MixedBatch, first_window: int) -> TrainingBatch:
        robots: list[Batch] = []
        pad_token_id = 0
        for group, rows in groupby(part.samples, key=_group):
            processor = self.processors[group]
            pad_token_id = processor.pad_token_id
            robots.append(processor.encode_samples(list(rows), as_bytes=True))
        language = None
        if part.conversations and self.conversation_processor is not None:
            language = self.conversation_processor.encode(part.conversations, as_bytes=True)
        return TrainingBatch(join(robots, pad_token_id) if robots else None, language, None, first_window)


def _group(sample: Sample) -> RobotGroup:
    return RobotGroup(sample.robot_type, sample.control_mode)
