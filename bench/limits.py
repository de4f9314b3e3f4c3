"""The physical limit of one inference of the released geometry on cards that need not be here: computed, not measured.

    .venv/bin/python bench/limits.py

Ceilings are the vendors' dense figures, except for the H200: those are lower, rates that a large matrix product and a copy
are said to reach there, taken over and not measured by us. Prints a table, then one JSON object.
"""

import json

import tyro
from measure.request import Geometry
from measure.roofline import Ceilings, limit_s, phases

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.models.config import preset

SCHEMA_VERSION = 1
GEOMETRIES = ("1x224", "2x224", "2x256", "3x224", "3x256", "3x320x256+85")
CARDS = {
    "RTX 4090": (Ceilings(165.2e12, 1.008e12), Ceilings(330.3e12, 1.008e12)),
    "H100 SXM": (Ceilings(989.4e12, 3.35e12), Ceilings(1978.9e12, 3.35e12)),
    "H200": (Ceilings(790e12, 4.3e12), Ceilings(1580e12, 4.3e12)),
}
"""Card -> ceilings of bfloat16 and of fp8 arithmetic (fp8 on the H200: twice its bfloat16). See docs/performance.md for their origin."""


def main() -> None:
    """Every geometry on every card, bfloat16 and fp8."""
    config = preset("xr0")
    rows = []
    for text in GEOMETRIES:
        geometry = Geometry.parse(text)
        full = phases(config, geometry)
        row = {
            "geometry": text,
            "num_tokens": geometry.num_tokens(config),
            "tflop": {phase.name: round(phase.flops / 1e12, 3) for phase in full},
        }
        for card, (bf16, fp8) in CARDS.items():
            row[card] = {
                "bf16_ms": round(1e3 * limit_s(full, bf16), 2),
                "fp8_ms": round(1e3 * limit_s(phases(config, geometry, bytes_per_weight=1.0), fp8), 2),
                "replan_ms": round(1e3 * full[-1].limit_s(bf16), 2),
            }
        rows.append(row)
    print(f"{'':14}{'tokens':>7}{'TFLOP':>7}" + "".join(f"{card + ' bf16/fp8/re-plan ms':>32}" for card in CARDS))
    for row in rows:
        cells = [f"{row[card]['bf16_ms']} / {row[card]['fp8_ms']} / {row[card]['replan_ms']}" for card in CARDS]
        total = sum(row["tflop"].values())
        print(f"{row['geometry']:14}{row['num_tokens']:>7}{total:>7.2f}" + "".join(f"{cell:>32}" for cell in cells))
    report = {"bench": "limits", "schema_version": SCHEMA_VERSION, "measured": False, "rows": rows}
    print(json.dumps(report | {"run": run_fingerprint(0)}))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
