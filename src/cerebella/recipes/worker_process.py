"""Worker processes that do not outlive who started them."""

import os
import threading
from multiprocessing import connection, parent_process


def end_with_parent() -> None:
    """Called in a worker when it begins: it ends as soon as its parent was killed, so that it never writes into the next run."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
