"""A thread that carries out jobs in order, so that the one that hands them over never waits for a disk."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from cerebella.runtime.recording.mcap_file import McapFile

Job = Callable[[], None]
_JOIN_TIMEOUT_S = 60.0
_log = logging.getLogger(__name__)


class WriterThread:
    """Writes to one file. `put`, `flush` and `close` belong to one thread, the jobs to another.

    Args:
        file: flushed every `flush_every_s`, abandoned after a fault. name: of the file, for messages.
        max_waiting: jobs that may wait; beyond it the file ends, or with `may_wait` the caller waits.
    """

    def __init__(self, file: McapFile, name: str, max_waiting: int, may_wait: bool, flush_every_s: float) -> None:
        self.num_taken = 0
        self.num_refused = 0
        self._file, self._name = file, name
        self._max_waiting, self._may_wait, self._flush_every_s = max_waiting, may_wait, flush_every_s
        self._jobs: queue.SimpleQueue[Job | threading.Event | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._is_full = self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="cerebella-recorder", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why the file ended early; empty while all is well."""
        if self._failure is not None:
            return f"{type(self._failure).__name__}: {self._failure}"
        return f"more than {self._max_waiting} records were waiting to be written" if self._is_full else ""

    def put(self, job: Job) -> bool:
        """Hand over a job; False, and counted, if the file has ended."""
        if self._jobs.qsize() >= self._max_waiting:
            self._make_room()
        if self._is_full or self._is_closed or self._failure is not None:
            self.num_refused += 1
            return False
        self.num_taken += 1
        self._jobs.put(job)
        return True

    def flush(self) -> None:
        """Wait until everything so far is on the disk, or has failed."""
        if not self._is_closed:
            done = threading.Event()
            self._jobs.put(done)
            done.wait()

    def close(self, last: Job) -> None:
        """Carry out what waits and then `last`. May be called twice; does nothing the second time.

        Raises:
            TimeoutError: the disk stands still.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._jobs.put(last)
        self._jobs.put(None)
        self._thread.join(_JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError(f"{self._name}: the disk did not take the rest within {_JOIN_TIMEOUT_S:g} s")

    def _make_room(self) -> None:
        if self._may_wait:
            self.flush()
        elif not self._is_full:
            self._is_full = True
            _log.error("%s: the recording ends here: %s", self._name, self.failure)

    def _work(self) -> None:
        next_flush_s = time.monotonic() + self._flush_every_s
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, next_flush_s - time.monotonic()))
            except queue.Empty:
                pass
            else:
                if job is None:
                    return
                is_flush = isinstance(job, threading.Event)
                self._carry_out(self._file.flush if is_flush else job)
                if is_flush:
                    job.set()
            if time.monotonic() >= next_flush_s and not self._is_closed:  # the last job closes the file
                self._carry_out(self._file.flush)
                next_flush_s = time.monotonic() + self._flush_every_s

    def _carry_out(self, job: Job) -> None:
        """After the first fault nothing is written any more."""
        if self._failure is not None:
            return
        try:
            job()
        except Exception as error:  # the boundary to the robot: whatever breaks a recording must not stop the motion
            self._failure = error
            _log.error("%s: the recording ends here: %s", self._name, self.failure)
            self._file.abandon()
