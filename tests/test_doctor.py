"""The doctor on this machine, and its judgement on machines made up for the purpose."""

import json
from dataclasses import replace

import pytest

from cerebella import doctor
from cerebella.doctor import Machine, abilities_of, examine

LAPTOP = Machine(
    num_cores=4,
    memory_gib=16.0,
    free_memory_gib=8.0,
    free_disk_gib=100.0,
    gpus=(),
    missing=(),
    encoders=("libx264", "mpeg4"),
)


def possible(machine: Machine) -> dict[str, bool]:
    return {ability.name.split(" (")[0]: ability.is_possible for ability in abilities_of(machine)}


def test_examine_finds_this_machine() -> None:
    report = examine()
    assert "What this machine can do" in report.to_text()
    found = {finding.name: finding for finding in report.findings}
    assert found["torch"].is_ok
    assert found["video"].is_ok
    assert {"clock", "wake-up", "memory", "disk"} <= set(found)
    assert json.loads(json.dumps(report.to_json()))["abilities"][0]["name"].startswith("demo")


def test_a_laptop_does_the_demo_and_small_training_only() -> None:
    can = possible(LAPTOP)
    assert can["demo"]
    assert can["tests"]
    assert can["train micro"]
    assert not can["train small"]
    assert not can["serve xr0"]


@pytest.mark.parametrize(
    ("memory_gib", "serves", "trains"),
    [(8.0, False, False), (9.5, True, False), (24.0, True, False), (80.0, True, True)],
)
def test_gpu_memory_decides_about_xr0(memory_gib: float, serves: bool, trains: bool) -> None:
    can = possible(replace(LAPTOP, gpus=(("small one", 4.0), ("big one", memory_gib))))
    assert can["serve xr0"] is serves
    assert can["train xr0 on one GPU"] is trains


def test_what_is_missing_is_named() -> None:
    reasons = {a.name: a.reason for a in abilities_of(replace(LAPTOP, missing=("PIL", "pytest"), encoders=()))}
    assert "pillow" in reasons["demo (make demo)"]
    assert "no video encoder" in reasons["demo (make demo)"]
    assert "pytest" not in reasons["demo (make demo)"]
    assert "pytest" in reasons["tests (make test)"]


def test_a_missing_package_becomes_a_line_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.PACKAGES, "no_such_module", ("no-such-package", "a test"))
    report = examine()
    finding = next(finding for finding in report.findings if finding.name == "no-such-package")
    assert not finding.is_ok
    assert finding.advice in report.to_text()
    assert not report.abilities[0].is_possible
