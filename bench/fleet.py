"""Robots per card, network per robot, hosts per fleet: computed from the physical limit, not measured. For docs/scale.md.

    .venv/bin/python bench/fleet.py

A card is taken to reach a stated share of its limit, and each call of the policy to cost 3 ms on the host. Prints tables,
then one JSON object.
"""

import json
import math
from typing import Any

import tyro
from limits import CARDS
from measure.request import Geometry
from measure.roofline import limit_s, phases

from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.models.config import preset

SCHEMA_VERSION = 1
GEOMETRIES = ("2x224", "3x320x256+85")
SHARES = {"RTX 4090": 0.75, "H200": 0.6}
"""Card -> share of the limit that a good static engine reaches: 65 to 79 % were published for a 4090; an H200, whose matrix
units the small products of one robot do not fill, is taken lower."""
HOST_S, POLICY_HZ, MAX_BATCH, DEADLINE_S = 3e-3, 30.0, 8, 0.2
BATCHES = (1, 2, 4, 8, 16)
REPLANS = (1, 5, 10, 20, 30)
UTILISATION = 0.8
"""Share of a card's time that is planned: the rest is for bursts."""
FLEETS = (10, 100, 1000)
HOSTS = {"1 x RTX 4090": ("RTX 4090", 1), "1 x H200": ("H200", 1), "8 x H200": ("H200", 8)}
LINKS_MBIT_S = {"Wi-Fi, 50 Mbit/s": 50.0, "Wi-Fi, 200 Mbit/s": 200.0, "1 Gbit/s": 1e3, "10 Gbit/s": 1e4}
JPEG_SHARE = 0.1
"""Of raw pixels at quality 92: 15 kB of 151 kB at 224 px."""


def main() -> None:
    """All tables."""
    batches = _batches()
    robots = _robots(batches)
    report = {
        "bench": "fleet",
        "schema_version": SCHEMA_VERSION,
        "measured": False,
        "assumed": {
            "share_of_limit": SHARES,
            "host_s": HOST_S,
            "utilisation": UTILISATION,
            "max_batch": MAX_BATCH,
            "deadline_s": DEADLINE_S,
        },
        "batches": batches,
        "robots": robots,
        "network": _network(),
        "hosts": _hosts(robots),
    }
    print(json.dumps(report | {"run": run_fingerprint(0)}))


def _seconds(card: str, geometry: str, batch: int) -> tuple[float, float]:
    """(limit, at the stated share) of one inference, bf16."""
    limit = limit_s(phases(preset("xr0"), Geometry.parse(geometry), batch), CARDS[card][0])
    return limit, limit / SHARES[card]


def _batches() -> list[dict[str, Any]]:
    rows = []
    print("one inference, ms: limit / at the stated share / with 3 ms of host, and answers per second")
    for card in SHARES:
        for geometry in GEOMETRIES:
            for batch in BATCHES:
                limit, reached = _seconds(card, geometry, batch)
                row = {
                    "card": card,
                    "geometry": geometry,
                    "batch": batch,
                    "limit_ms": round(limit * 1e3, 1),
                    "reached_ms": round(reached * 1e3, 1),
                    "with_host_ms": round((reached + HOST_S) * 1e3, 1),
                    "answers_per_s": round(batch / (reached + HOST_S), 1),
                }
                rows.append(row)
                print(
                    f"{card:9} {geometry:13} batch {batch:2}: {row['limit_ms']:6} / {row['reached_ms']:6} / "
                    f"{row['with_host_ms']:6}  {row['answers_per_s']:6}"
                )
    return rows


def _robots(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    print(
        f"\nrobots per card at 30 Hz, {UTILISATION:.0%} busy, by ticks between re-plans; the largest batch (at most {MAX_BATCH})"
    )
    print(f"of which two fit into {DEADLINE_S * 1e3:g} ms, because a request may find one under way")
    for card in SHARES:
        for geometry in GEOMETRIES:
            own = [row for row in batches if (row["card"], row["geometry"]) == (card, geometry)]
            fits = [row for row in own if row["batch"] <= MAX_BATCH and 2e-3 * row["with_host_ms"] <= DEADLINE_S]
            best = max(fits, key=lambda row: row["answers_per_s"])
            per_s, batch = best["answers_per_s"], best["batch"]
            held = {k: math.floor(per_s * UTILISATION * k / POLICY_HZ) for k in REPLANS}
            rows.append({"card": card, "geometry": geometry, "batch": batch, "answers_per_s": per_s, "robots": held})
            cells = "  ".join(f"k={k}: {number:4}" for k, number in held.items())
            print(f"{card:9} {geometry:13} batch {batch}, {per_s:6} answers/s   {cells}")
    return rows


def _network() -> list[dict[str, Any]]:
    rows = []
    print("\nnetwork at k = 20 (1.5 requests per second)")
    for geometry in GEOMETRIES:
        parsed = Geometry.parse(geometry)
        raw = parsed.num_images * parsed.width * parsed.height * 3
        for name, size in (("raw", raw), ("JPEG", raw * JPEG_SHARE)):
            mbit = size * 8 / 1e6
            row = {
                "geometry": geometry,
                "pictures": name,
                "kilobytes": round(size / 1e3),
                "mbit_s_per_robot": round(mbit * POLICY_HZ / 20, 2),
                "gbit_s_per_100_robots": round(mbit * POLICY_HZ / 20 / 10, 2),
                "transfer_ms": {link: round(mbit / rate * 1e3, 1) for link, rate in LINKS_MBIT_S.items()},
            }
            rows.append(row)
            times = "  ".join(f"{link}: {value} ms" for link, value in row["transfer_ms"].items())
            print(
                f"{geometry:13} {name:5} {row['kilobytes']:4} kB  {row['mbit_s_per_robot']:5} Mbit/s a robot, "
                f"{row['gbit_s_per_100_robots']} Gbit/s per 100   {times}"
            )
    return rows


def _hosts(robots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    print("\nhosts for a fleet at k = 20, one more than needed")
    for geometry in GEOMETRIES:
        for host, (card, num_cards) in HOSTS.items():
            held = next(row["robots"][20] for row in robots if (row["card"], row["geometry"]) == (card, geometry))
            hosts = {number: math.ceil(number / (held * num_cards)) + 1 for number in FLEETS}
            rows.append({"geometry": geometry, "host": host, "robots_per_host": held * num_cards, "hosts": hosts})
            cells = "  ".join(f"{number} robots: {count}" for number, count in hosts.items())
            print(f"{geometry:13} {host:13} {held * num_cards:5} robots a host   {cells}")
    return rows


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
