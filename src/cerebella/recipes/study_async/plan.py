"""Which cells, in which order, at which cost, and what is left out before anything runs.

The order is that of what one learns: every method on every task at the first horizon and seed, then the other seeds, then
the longer horizon. Within that, policies in the order of `methods.VARIANT_ORDER`, so that a study which is cut short has
whole comparisons. All cells of a policy follow each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cerebella.recipes.study_async.cells import Name, PolicyName, RolloutName, TrapName
from cerebella.recipes.study_async.methods import METHODS, Method, variants_of
from cerebella.recipes.study_async.recipe import BURST, StudyAsyncRecipe


@dataclass(frozen=True)
class Costs:
    """CPU seconds on one thread, from the first hundred cells.

    Args:
        base: the base of all variants at H = 16, trained with the first of them. variant: each of them. reweighted: one with
            error re-weighting, which samples in every step.
        rollout: one cell of 64 episodes. guided, best_of_n: the same in these modes.
        trap: one trap cell. longer: factor on everything at H = 30.
    """

    base: float = 95.0
    variant: float = 30.0
    reweighted: float = 58.0
    rollout: float = 3.5
    guided: float = 6.5
    best_of_n: float = 16.0
    trap: float = 2.5
    longer: float = 1.8


COSTS = Costs()
PIXEL_COSTS = Costs(base=1850.0, variant=800.0, reweighted=950.0, rollout=20.0, guided=40.0, best_of_n=40.0, trap=10.0)
"""With pictures, on jammed_drawer; `guided` and `best_of_n` are guesses."""
_REWEIGHTED = ("reweight", "all", "released", "all_stale")


def policies(recipe: StudyAsyncRecipe) -> list[PolicyName]:
    """All policies, in the order in which they are worth having, whatever `recipe.part`."""
    return [
        PolicyName(task, horizon, variant, seed)
        for horizon in recipe.horizons
        for seed in recipe.seeds
        for variant in variants_of(recipe.methods_at(horizon))
        for task in recipe.tasks_at(horizon)
    ]


def own_policies(recipe: StudyAsyncRecipe) -> list[PolicyName]:
    """Those of `recipe.part`. The variants of one base stay together: no two processes may train the same base."""
    everything = policies(recipe)
    bases = list(dict.fromkeys((name.horizon, name.seed, name.task) for name in everything))
    mine = set(bases[recipe.part :: recipe.num_parts])
    return [name for name in everything if (name.horizon, name.seed, name.task) in mine]


def methods_of(recipe: StudyAsyncRecipe, policy: PolicyName) -> list[Method]:
    """The methods that run on this policy."""
    names = recipe.methods_at(policy.horizon)
    return [METHODS[name] for name in names if METHODS[name].variant == policy.variant]


def rollouts(recipe: StudyAsyncRecipe, policy: PolicyName) -> Iterator[tuple[RolloutName, RolloutName]]:
    """(calm, disturbed) cells of a policy: each pair is run together, since reaction times need both."""
    delays: list[int | str] = [delay for delay in recipe.delays if fits(delay, policy.horizon // 2, policy.horizon)]
    delays += [BURST] if recipe.with_burst else []
    conditions = [(method, policy.horizon // 2, delay) for method in methods_of(recipe, policy) for delay in delays]
    conditions += [
        (method, execute_horizon, delay)
        for method in methods_of(recipe, policy)
        if method.name in recipe.other_methods
        for execute_horizon in recipe.other_horizons_at(policy.horizon)
        for delay in recipe.other_delays
        if fits(delay, execute_horizon, policy.horizon)
    ]
    for method, execute_horizon, delay in conditions:
        calm, disturbed = (
            RolloutName(policy.task, policy.horizon, execute_horizon, method.name, delay, perturbation, policy.seed)
            for perturbation in (False, True)
        )
        yield calm, disturbed


def traps(recipe: StudyAsyncRecipe, policy: PolicyName) -> Iterator[TrapName]:
    """Trap cells of a policy: the modes that look at the running plan. Open loop, a margin makes no difference."""
    modes = {method.mode: method for method in reversed(methods_of(recipe, policy))}  # the first method of each mode
    for mode, method in modes.items():
        if mode in ("prefix", "guided", "guided_identity"):
            for delay in recipe.trap_delays:
                if fits(delay, policy.horizon // 2, policy.horizon):
                    yield TrapName(policy.task, policy.horizon, method.name, delay, policy.seed)


def cells(recipe: StudyAsyncRecipe, policy: PolicyName) -> list[Name]:
    """Every cell of a policy, its training first."""
    pairs = [name for pair in rollouts(recipe, policy) for name in pair]
    return [policy, *pairs, *traps(recipe, policy)]


def fits(delay: int, execute_horizon: int, horizon: int) -> bool:
    """Whether delay <= execute horizon <= horizon - delay."""
    return delay <= execute_horizon <= horizon - delay


def cost_s(recipe: StudyAsyncRecipe, name: Name) -> float:
    """Expected CPU seconds of a cell."""
    costs = COSTS if recipe.observation == "state" else PIXEL_COSTS
    longer = costs.longer if name.horizon > 16 else 1.0
    if isinstance(name, PolicyName):
        first = costs.base if name.variant == variants_of(recipe.methods_at(name.horizon))[0] else 0.0
        return longer * (first + (costs.reweighted if name.variant in _REWEIGHTED else costs.variant))
    if isinstance(name, TrapName):
        return longer * costs.trap * recipe.num_stale_windows / 512
    mode = METHODS[name.method].mode
    one = {"guided": costs.guided, "guided_identity": costs.guided, "best_of_n": costs.best_of_n}.get(
        mode, costs.rollout
    )
    return longer * one * recipe.num_episodes / 64


@dataclass(frozen=True)
class PlanRow:
    """A row of the table of the budget. `planned_s`: expected CPU seconds of all `num_planned` cells."""

    horizon: int
    seed: int
    kind: str
    num_planned: int
    planned_s: float


def plan_rows(recipe: StudyAsyncRecipe) -> list[PlanRow]:
    """What is planned, per horizon, seed and kind of cell, in the order of running."""
    totals: dict[tuple[int, int, str], tuple[int, float]] = {}
    for policy in policies(recipe):
        for name in cells(recipe, policy):
            key = policy.horizon, policy.seed, name.kind
            count, seconds = totals.get(key, (0, 0.0))
            totals[key] = count + 1, seconds + cost_s(recipe, name)
    return [PlanRow(*key, *total) for key, total in totals.items()]


def left_out(recipe: StudyAsyncRecipe) -> list[tuple[str, str]]:
    """(what, why) of conditions that do not exist, or that were never planned."""
    found = []
    for horizon in recipe.horizons:
        half = horizon // 2
        if wrong := [delay for delay in recipe.delays if not fits(delay, half, horizon)]:
            found.append(
                (f"delays {_join(wrong)} at H = {horizon}", f"delay <= s <= H - delay does not hold at s = {half}")
            )
    for horizon in recipe.horizons:
        for execute_horizon in recipe.other_horizons_at(horizon):
            if wrong := [delay for delay in recipe.other_delays if not fits(delay, execute_horizon, horizon)]:
                what = f"delays {_join(wrong)} at s = {execute_horizon}, H = {horizon}"
                found.append((what, "delay <= s <= H - delay does not hold"))
    if any(recipe.other_horizons_at(horizon) for horizon in recipe.horizons):
        others = [name for name in recipe.methods if name not in recipe.other_methods]
        if others:
            found.append(
                (f"other execute horizons for {_join(others)}", "one variant of each kind is enough to see the curve")
            )
    missing = [s for s in recipe.other_horizons if s not in recipe.longer_other_horizons]
    if missing and recipe.horizons[1:]:
        found.append((f"execute horizons {_join(missing)} at H = {_join(recipe.horizons[1:])}", "cost"))
    for horizon in recipe.horizons[1:]:
        for what, whole, kept in (
            ("tasks", recipe.tasks, recipe.longer_tasks),
            ("methods", recipe.methods, recipe.longer_methods),
        ):
            if rest := [value for value in whole if value not in kept]:
                found.append((f"{what} {_join(rest)} at H = {horizon}", "cost"))
    return found


def _join(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
