import queue
from typing import Any


class SingleThreadedExecutor:
    """Runs callbacks one after the other in the thread that calls `spin`, until `shutdown`."""

    def __init__(self) -> None:
        self.work: queue.Queue[Any] = queue.Queue()

    def add_node(self, node: Any) -> None:
        node.executor = self

    def spin(self) -> None:
        while (item := self.work.get()) is not None:
            callback, message = item
            callback(message)
            self.work.task_done()

    def shutdown(self) -> None:
        self.work.put(None)
