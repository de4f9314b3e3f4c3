"""Takes assemblies apart with two arms, from the true state: one holds, the other pulls, and either sorts what it has.

The plan is made anew after each step from what is there: loose bricks are sorted first, the highest first, with both arms at
once where their ways are apart; then one more brick is pulled off an assembly from the top. A grip that slipped, a joint that
held, a brick that fell, a piece that came off whole need no cases of their own: they are what the next look finds.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.lego.bins import bins_of
from cerebella.envs.workcell.lego.grasps import Grip, free_grips, with_walls
from cerebella.envs.workcell.lego.handling import (
    bin_spot_m,
    deliver,
    is_holding,
    is_reachable,
    let_go,
    park,
    pull,
    rise,
    set_down,
    side_sign,
    take,
)
from cerebella.envs.workcell.lego.pairs import PairGrip, pair_grips
from cerebella.envs.workcell.lego.workpiece import LegoEpisode, bricks_now
from cerebella.envs.workcell.moves import Move, both, open_to, wait
from cerebella.envs.workcell.task import Plan
from cerebella.geometry import Array

SIDES: tuple[Side, Side] = ("left", "right")
_APART_M = 0.09
"""Between the ways of two arms at work at once, along y."""
_OVER_THE_MIDDLE_M = 0.08
"""An arm whose way comes nearer to the other half than this waits until the other arm is aside."""
_LIFTED_M = 0.004
_MAX_FAILURES = 2
"""After so many slips a brick has to wait until nothing else is left to do."""


@dataclass
class _Job:
    """One arm's next work: a brick to take (unless it is in the hand) and to bring to its bin."""

    side: Side
    number: int
    spot_m: Array
    grip: Grip | None
    ways_m: tuple[float, ...]  # along y, positive to the arm's own side


@dataclass
class _Expert:
    """What one episode's demonstrator remembers: how often a brick (its number) slipped or a pair (its key) was pulled."""

    cell: Cell
    episode: LegoEpisode
    rng: np.random.Generator
    failures: Counter[object] = field(default_factory=Counter)

    def run(self) -> Plan:
        num_idle = 0
        while num_idle < 3:
            if jobs := self._sorting_jobs(_MAX_FAILURES):
                yield from self._do(jobs)
                continue
            if pair := self._best_pair():
                yield from self._pull_apart(pair)
                continue
            if jobs := self._sorting_jobs(2 * _MAX_FAILURES):
                yield from self._do(jobs)
                continue
            num_idle += 1
            yield from self._together({side: park(self.cell.arm(side), side) for side in SIDES})
            yield from both(self.cell, left=wait(self.cell.left, 0.3))
            self.failures.clear()

    # -- sorting --

    def _sorting_jobs(self, max_failures: int) -> list[_Job]:
        """One job, or one for each arm that do not get in each other's way; empty if no loose brick can be taken.

        Bricks that slipped `max_failures` times are left where they are.
        """
        cell, episode = self.cell, self.episode
        bricks = bricks_now(cell, episode)
        is_left_over = episode.is_separate(cell) & (bins_of(bricks.positions_m) != episode.bin_numbers)
        numbers = np.array(
            [i for i in np.flatnonzero(is_left_over).tolist() if self.failures[i] < max_failures], dtype=int
        )
        obstacles = with_walls(bricks)
        order = numbers[np.argsort(-bricks.positions_m[numbers, 2].round(3), kind="stable")].tolist()
        order.sort(key=lambda number: self.failures[number])
        first: _Job | None = None
        for number in order:
            for job in self._jobs_for(number, free_grips(obstacles, number), bricks.positions_m[number]):
                if first is None:
                    first = job
                elif self._are_apart(first, job):
                    return [first, job]
        return [] if first is None else [first]

    def _jobs_for(self, number: int, grips: list[Grip], position_m: Array) -> list[_Job]:
        """At most one for each arm, the nearer arm's first."""
        spot_m = bin_spot_m(self.cell, self.episode, number, self.rng)
        pure = [grip for grip in grips if not grip.others]
        tried = self.failures[number]
        jobs: list[_Job] = []
        for side in sorted(SIDES, key=lambda side: -side_sign(side) * (position_m[1] + spot_m[1])):
            within = [grip for grip in pure if is_reachable(self.cell.arm(side), grip)]
            if within:
                ways = tuple(side_sign(side) * y for y in (position_m[1], spot_m[1]))
                jobs.append(_Job(side, number, spot_m, within[tried % len(within)], ways))
        return jobs

    def _are_apart(self, first: _Job, second: _Job) -> bool:
        """Whether two jobs of different arms can be done at once: everything of one is well to the side of the other."""
        return first.side != second.side and min(first.ways_m) + min(second.ways_m) > _APART_M

    def _do(self, jobs: list[_Job]) -> Plan:
        """One job, while the other arm goes aside (before it begins, if the ways cross), or two at once."""
        moves: dict[Side, Move] = {job.side: self._work(job) for job in jobs}
        if len(jobs) == 1:
            other = _other(jobs[0].side)
            away = park(self.cell.arm(other), other)
            if min(jobs[0].ways_m) < _OVER_THE_MIDDLE_M:
                yield from self._together({other: away, jobs[0].side: rise(self.cell.arm(jobs[0].side))})
            else:
                moves[other] = away
        yield from self._together(moves)

    def _work(self, job: _Job) -> Move:
        arm = self.cell.arm(job.side)
        if job.grip is not None:
            yield from take(arm, job.grip)
            if not is_holding(self.cell, self.episode, job.side, job.number):
                self.failures[job.number] += 1
                yield from let_go(arm)
                return
        yield from deliver(self.cell, self.episode, job.side, job.number, job.spot_m)

    # -- taking apart --

    def _best_pair(self) -> PairGrip | None:
        cell, episode = self.cell, self.episode
        for pair in pair_grips(bricks_now(cell, episode), episode, episode.joined_pairs(cell), self.failures):
            if is_reachable(cell.left, pair.grip("left")) and is_reachable(cell.right, pair.grip("right")):
                return pair
        return None

    def _pull_apart(self, pair: PairGrip) -> Plan:
        cell, episode = self.cell, self.episode
        puller, holder = pair.puller, _other(pair.puller)
        yield from self._together({s: take(cell.arm(s), pair.grip(s)) for s in SIDES})
        yield from self._together({puller: pull(cell.arm(puller), pair.direction)})
        self.failures[pair.key] += 1
        held = {side: self._in_hand(side, pair.grip(side).brick) for side in SIDES}
        jobs: list[_Job] = []
        aside: dict[Side, Move] = {}
        for side in (puller, holder):
            piece = held[side]
            arm = cell.arm(side)
            if len(piece) == 1 and not pair.grip(side).others:
                number = piece[0]
                spot_m = bin_spot_m(cell, episode, number, self.rng)
                ways = (side_sign(side) * arm.T_world_tool[1, 3], side_sign(side) * spot_m[1])
                jobs.append(_Job(side, number, spot_m, None, ways))
            elif piece and bricks_now(cell, episode).lowest_m[piece].min() > _LIFTED_M and held[_other(side)] != piece:
                aside[side] = set_down(cell, episode, side, piece)
            else:
                aside[side] = self._back_away(side)
        if aside:
            lift: dict[Side, Move] = {job.side: rise(cell.arm(job.side)) for job in jobs}
            yield from self._together({**aside, **lift})
        if len(jobs) == 2 and self._may_part(*jobs):
            moves: dict[Side, Move] = {job.side: self._work(job) for job in jobs}
            yield from self._together(moves)
        else:
            for job in jobs:
                yield from self._do([job])

    def _may_part(self, first: _Job, second: _Job) -> bool:
        """Whether two arms that have just parted two bricks can go to their bins at once."""
        return first.ways_m[1] + second.ways_m[1] > _APART_M and first.ways_m[0] + second.ways_m[0] > 0.0

    def _back_away(self, side: Side) -> Move:
        arm = self.cell.arm(side)
        yield from let_go(arm)
        yield from park(arm, side)

    def _in_hand(self, side: Side, number: int) -> list[int]:
        """The piece that an arm holds by one of its bricks; empty if it does not."""
        if not is_holding(self.cell, self.episode, side, number):
            return []
        return next(piece for piece in self.episode.pieces(self.cell) if number in piece)

    def _together(self, moves: dict[Side, Move]) -> Plan:
        yield from both(self.cell, left=moves.get("left"), right=moves.get("right"))


def take_apart_and_sort(cell: Cell, episode: LegoEpisode, rng: np.random.Generator) -> Plan:
    """Until nothing is left to do or to try."""
    yield from both(cell, left=open_to(cell.left), right=open_to(cell.right))
    yield from _Expert(cell, episode, rng).run()


def _other(side: Side) -> Side:
    return "right" if side == "left" else "left"
