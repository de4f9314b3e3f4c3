"""What is no recording, or not a whole one, is named with its file."""

import json
from pathlib import Path

import pytest
from mcap.writer import Writer

from cerebella.runtime.recording import encoding
from cerebella.runtime.recording.mcap_file import METADATA_NAME, TOPICS
from cerebella.runtime.recording.messages import schema_bytes
from cerebella.runtime.recording.reader import read_header, read_recording
from tests.runtime.recording.made import ZEROS, make_header, make_tick, write_ticks


def write_foreign(
    path: Path, header: str | None, messages: list[tuple[str, str, int, bytes]], encoded_as: str = "protobuf"
) -> Path:
    """A file of somebody else: (topic, schema, sequence, data)."""
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        if header is not None:
            writer.add_metadata(METADATA_NAME, {"header": header})
        for topic, schema, sequence, data in messages:
            schema_id = writer.register_schema(schema, encoded_as, schema_bytes(schema))
            writer.add_message(writer.register_channel(topic, encoded_as, schema_id), 0, data, 0, sequence)
        writer.finish()
    return path


def test_a_file_that_is_not_mcap(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_text("tick,value\n")
    with pytest.raises(ValueError, match=r"run\.mcap is no MCAP file: it begins with b'tick,val'"):
        read_recording(path)
    with pytest.raises(FileNotFoundError):
        read_recording(tmp_path / "none.mcap")


def test_mcap_of_somebody_else(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "run.mcap", None, [("/tick", TOPICS["/tick"], 0, b"")])
    with pytest.raises(ValueError, match=r"run\.mcap is an MCAP file, but no recording"):
        read_header(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "format version 99; this program reads version 1"),
        ({"config": {"mode": "prefix"}}, "execute_horizon"),
        ({"surprise": 1}, "surprise"),
        ({"metadata": {"embodiment": {}}}, "its embodiment is not an embodiment: the field 'states' is missing"),
    ],
)
def test_a_header_that_does_not_fit(tmp_path: Path, change: dict[str, object], words: str) -> None:
    header = json.dumps(json.loads(make_header().to_json()) | change)
    path = write_foreign(tmp_path / "run.mcap", header, [])
    with pytest.raises(ValueError, match=r"run\.mcap: the header cannot be used: .*") as caught:
        read_recording(path)
    assert words in str(caught.value)


def test_a_gap_is_named(tmp_path: Path) -> None:
    ticks = [("/tick", TOPICS["/tick"], n, encoding.encode_tick(make_tick(n))) for n in (0, 1, 3)]
    path = write_foreign(tmp_path / "run.mcap", make_header().to_json(), ticks)
    with pytest.raises(ValueError, match=r"run\.mcap, record 2 \(/tick\) has the number 3: records before it"):
        read_recording(path)


@pytest.mark.parametrize(
    ("topic", "schema", "data", "words"),
    [
        ("/odd", TOPICS["/tick"], b"", "unknown topic; known: /observation"),
        ("/tick", TOPICS["/event"], b"", "is a cerebella.Event; expected a cerebella.Tick"),
        ("/tick", TOPICS["/tick"], b"\xff\xff", "not a cerebella.Tick"),
        (
            "/tick",
            TOPICS["/tick"],
            encoding.encode_tick(make_tick(0, values=ZEROS[:3])),
            "actions must be float32[..., 4]",
        ),
    ],
)
def test_a_record_that_does_not_fit(tmp_path: Path, topic: str, schema: str, data: bytes, words: str) -> None:
    path = write_foreign(tmp_path / "run.mcap", make_header().to_json(), [(topic, schema, 0, data)])
    with pytest.raises(ValueError, match=r"run\.mcap, record 0") as caught:
        read_recording(path)
    assert words in str(caught.value)


def test_a_recording_without_a_record_has_a_header(tmp_path: Path) -> None:
    recording = read_recording(write_ticks(tmp_path / "run.mcap"))
    assert recording.entries == ()
    assert recording.is_finished
