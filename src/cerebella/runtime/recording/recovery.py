"""Give a recording whose writer was killed its end and its index, so that every program can open it."""

from dataclasses import dataclass
from pathlib import Path

from cerebella.data.lerobot_files import replace_file
from cerebella.runtime.recording.mcap_file import CAMERA_TOPIC, McapFile, encode_end
from cerebella.runtime.recording.mcap_messages import messages, open_state
from cerebella.runtime.recording.reader import read_header


@dataclass(frozen=True)
class Recovery:
    """What `recover` did.

    Args:
        was_finished: there was nothing to do.
        num_messages: in the file now.
        num_lost_bytes: at its end, of a chunk that was being written.
    """

    was_finished: bool
    num_messages: int
    num_lost_bytes: int


def recover(path: Path | str) -> Recovery:
    """Finish a file in place. The old one is replaced when the new one is on the disk; safe to repeat.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no recording; names the file.
    """
    path = Path(path)
    state = open_state(path)
    if state.is_finished:
        return Recovery(True, sum(1 for _ in messages(path, state)), 0)
    header = read_header(path)
    num_messages = 0

    def write(partial: Path) -> None:
        nonlocal num_messages
        partial.unlink(missing_ok=True)
        target = McapFile(partial, header.to_json())
        num_records = 0
        for message in messages(path, state):
            target.add(message.topic, message.data, message.time_ns)
            num_records += not message.topic.startswith(CAMERA_TOPIC)
        num_messages = target.num_messages
        target.add("/end", encode_end(num_records, 0, 0, "recovered: its writer was killed"), 0)
        target.close()

    replace_file(path, write)
    return Recovery(False, num_messages, state.num_bytes - state.num_bytes_read)
