"""`cerebella plan`: what fits, and how long it takes, before anyone waits."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cerebella.cli.errors import EXIT_FAILED_CHECK, check_name
from cerebella.cli.output import check_json, write_json

if TYPE_CHECKING:
    from cerebella.training import plan as plans
    from cerebella.training.stages import Stage


@dataclass(frozen=True)
class Plan:
    """Memory per GPU, largest micro-batch and hours of a published training run, on the GPUs that you have.

    Nothing is allocated. Speed is an estimate: operations over peak times utilisation.
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """a published run, e.g. xr0-pretrain, xr0-posttrain-async, xr0-libero"""
    gpus: int
    """GPUs all together"""
    memory: float
    """of one GPU, GB"""
    gpus_per_node: int = 8
    """GPUs with fast links between them"""
    tflops: float = 989.0
    """peak of one GPU in dense bfloat16, TFLOP/s; 989: H100, H200"""
    utilisation: float = 0.35
    """share of the peak that training reaches"""
    json: Path | None = None
    """write the same as JSON to this file"""

    def run(self) -> int:
        """Print a table per stage; exit code 1 if a stage fits in no way."""
        from cerebella.recipes.paper import RECIPES
        from cerebella.training.plan import Machine, for_gpus, plan

        check_name("recipe", self.recipe, RECIPES)
        check_json(self.json)
        recipe = RECIPES[self.recipe]
        machine = Machine(self.gpus, self.memory, self.gpus_per_node, self.tflops, self.utilisation)
        stages = [
            plan(recipe.model, for_gpus(stage, self.gpus), machine, recipe.robot, recipe.conversation)
            for stage in recipe.stages
        ]
        print(f"{recipe.name}: {recipe.summary}\n")
        for stage, one in zip(recipe.stages, stages, strict=True):
            print("\n".join(_table(one, stage)) + "\n")
        if recipe.ours:
            print("not published, so ours:")
            for name, reason in recipe.ours.items():
                print(f"  {name}: {reason}")
        content: dict[str, Any] = {"recipe": recipe.name, "machine": asdict(machine), "ours": dict(recipe.ours)}
        write_json(self.json, content | {"stages": [_facts(one) for one in stages]})
        return 0 if all(one.best for one in stages) else EXIT_FAILED_CHECK


def _table(one: "plans.Plan", published: "Stage") -> Iterator[str]:
    stage = one.stage
    total = sum(one.parameters.values())
    trained = sum(one.parameters[part] for part in one.trained)
    talk = f" and {stage.num_conversations:,} conversations" if stage.num_conversations else ""
    yield f"{stage.name}: {stage.num_steps:,} steps of {stage.batch_size:,} windows{talk}"
    if stage != published:
        counts = f"{published.batch_size:,} windows, {published.num_conversations:,} conversations"
        yield f"  rounded so that {one.machine.num_gpus} GPUs share them evenly; the recipe says {counts}"
    yield f"  {trained / 1e9:.3f} of {total / 1e9:.3f} billion parameters move ({', '.join(one.trained)})"
    yield f"  {one.num_tokens} context tokens, {one.flops_per_sample / 1e12:.2f} TFLOP a sample"
    yield (
        f"  {'layout':<10} {'recompute':<17} {'fixed GB':>8} {'GB/sample':>9} {'micro':>6} {'passes':>6} {'GB':>6} "
        + (f"{'samples/s':>10} {'hours':>8}")
    )
    for layout in one.layouts:
        head = f"  {layout.name:<10} {', '.join(layout.recompute) or '-':<17} {sum(layout.fixed_gb.values()):>8.1f} "
        if layout.fits:
            yield head + (
                f"{layout.sample_gb:>9.2f} {layout.micro_batch:>6} {layout.num_micro_batches:>6} {layout.total_gb:>6.1f} "
                f"{layout.samples_per_s:>10,.1f} {layout.hours:>8,.1f}"
            )
        else:
            yield head + f"{layout.sample_gb:>9.2f} {'does not fit':>13} {layout.total_gb:>6.1f}"
    yield f"  {one.advice}"


def _facts(one: "plans.Plan") -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "stage": asdict(one.stage),
        "parameters": one.parameters,
        "trained": list(one.trained),
        "num_tokens": one.num_tokens,
        "flops_per_sample": one.flops_per_sample,
        "layouts": [asdict(layout) | {"fits": layout.fits} for layout in one.layouts],
        "advice": one.advice,
    }
