"""Wrong use of a script ends with one sentence and exit code 2, before a model is built or a rate is measured."""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cerebella.models.vla import VLA

BENCH = Path(__file__).parents[2] / "bench"
Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a script in this process, as if from the command line; whatever would be work is an error."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setattr(VLA, "__init__", work)
    monkeypatch.setattr(torch, "matmul", work)
    monkeypatch.setattr(subprocess, "run", work)
    monkeypatch.setenv("COLUMNS", "400")

    def call_script(script: str, *words: str) -> int:
        path = str(BENCH / script)
        monkeypatch.setattr(sys, "argv", [path, *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call_script


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("latency.py", "--preset foo", "unknown preset 'foo'; known presets: "),
        ("latency.py", "--preset", "--preset needs at least one value; got none"),
        ("latency.py", "--geometry", "--geometry needs at least one value; got none"),
        ("latency.py", "--geometry 224", "spelled VIEWSxSIDE"),
        ("latency.py", "--geometry 2x128 2x100", "multiples of 16 px for 'nano'; got 2x100"),
        ("latency.py", "--rounds 2", "rounds must be 3 or more"),
        ("latency.py", "--token-px 0", "positive multiple of 2 px for 'nano'; got 0"),
        ("latency.py", "--token-px -16", "positive multiple of 2 px for 'nano'; got -16"),
        ("latency.py", "--token-px 33", "positive multiple of 2 px for 'nano'; got 33"),
        ("latency.py", "--token-px 48", "multiples of 48 px for 'nano'; got 2x128"),
        ("latency.py", "--compile none --compile-peer", "needs --compile first or all"),
        ("latency.py", "--device cuda", "torch sees no GPU here"),
        ("gpu.py", "--parts x", "unknown parts: x; known: a, b, c, d, e"),
        ("gpu.py", "--parts aa", "each once, of a, b, c, d, e; got 'aa'"),
        ("gpu.py", "--parts=", "one letter or more"),
        ("gpu.py", "--parts b --compile-peer", "belongs to part a; --parts is 'b'"),
        ("full_size.py", "--preset foo", "unknown preset 'foo'"),
        ("full_size.py", "--geometry 2x100", "multiples of 32 px for 'xr0'; got 2x100"),
        ("full_size.py", "--passes 0", "--passes must be 1 or more; got 0"),
    ],
)
def test_a_mistake_is_one_sentence(
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    words: str,
    sentence: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call(script, *words.split()) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out


@pytest.mark.parametrize(("script", "option"), [("latency.py", "--json"), ("gpu.py", "--out")])
def test_a_file_that_cannot_be_written_is_noticed_first(
    call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path, script: str, option: str
) -> None:
    assert call(script, option, str(tmp_path)) == 2
    printed = capsys.readouterr()
    assert f"cannot write {tmp_path}" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out


def test_a_failure_of_ours_keeps_its_traceback(call: Call, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="work has begun"):
        call("full_size.py", "--preset", "micro", "--geometry", "2x64")


HELP = {
    "latency.py": {
        "--preset": "sizes of the model",
        "--geometry": "images and text of a request",
        "--token-px": "side of an image token in pixels",
        "--dtype": "type of weights and arithmetic",
        "--device": "where everything runs",
        "--rounds": "interleaved rounds",
        "--budget-s": "wall seconds",
        "--compile": "for which cases",
        "--how": "compile one layer of each kind",
        "--compile-peer": "also run the peer",
        "--json": "write the JSON object",
    },
    "gpu.py": {"--parts": "letters of the parts", "--out": "a file of JSON lines", "--compile-peer": "the peer"},
    "full_size.py": {
        "--preset": "size of the model",
        "--geometry": "images and text",
        "--passes": "inferences",
        "--only": "measure this one",
    },
    "limits.py": {},
    "executor_overhead.py": {},
}


@pytest.mark.parametrize("script", sorted(HELP))
def test_help_explains_every_option_by_its_own_words(
    call: Call, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    assert call(script, "--help") == 0
    text = " ".join(re.sub("[│|]", " ", capsys.readouterr().out).split())
    options = text.partition("show this help message and exit")[2]
    names = set(re.findall(r"(?<!\S)--(?!no-)[a-z-]+", options))
    assert names == set(HELP[script])
    for name, words in HELP[script].items():
        explained = re.search(rf"{name}[ ,](?:(?!\(default: ).)*", options)
        assert explained is not None, f"{name} is missing"
        assert words in explained[0]
