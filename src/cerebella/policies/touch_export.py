"""A touch policy as a graph for other runtimes: ONNX, and a program of `torch.export`.

Both take what `TouchPolicy.predict_many` takes, with any number n of rows: counts uint8[n, 5, 11, 9], joints float32[n, 11],
goal_counts, goal_joints. Both give `numbers` float32[n, K, 12], the rotation row by row and metres, not yet projected to a
rotation: `models.touch_refiner.increments` makes D of them, in NumPy, as the policy itself does.
"""

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from cerebella.models.touch_refiner import TouchRefiner
from cerebella.policies.touch_policy import TouchPolicy

INPUT_NAMES = ("counts", "joints", "goal_counts", "goal_joints")
OUTPUT_NAME = "numbers"
OPSET = 18


class _Deployed(nn.Module):
    """Counts in, numbers in units out."""

    def __init__(self, model: TouchRefiner) -> None:
        super().__init__()
        self.model = model

    def forward(self, counts: Tensor, joints: Tensor, goal_counts: Tensor, goal_joints: Tensor) -> Tensor:
        said = self.model(counts.float() / 255, joints, goal_counts.float() / 255, goal_joints)
        return self.model.numbers(said)


def export_program(policy: TouchPolicy) -> torch.export.ExportedProgram:
    """The program; `torch.export.save` writes it to a file."""
    rows = torch.export.Dim("n")
    shapes = {name: {0: rows} for name in INPUT_NAMES}
    return torch.export.export(_Deployed(policy.model).eval(), _example(policy), dynamic_shapes=shapes)


def export_onnx(policy: TouchPolicy, path: Path) -> None:
    """Write one ONNX file with its weights inside.

    Raises:
        ValueError: the packages that write it are not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs the packages {' and '.join(missing)}: pip install 'cerebella[export]'")
    with warnings.catch_warnings():
        # The exporter uses what torch itself has deprecated.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        program = torch.onnx.export(
            export_program(policy),
            input_names=list(INPUT_NAMES),
            output_names=[OUTPUT_NAME],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path)


def _example(policy: TouchPolicy) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two rows: one would be taken for a constant. Four tensors: what is given twice would become one input."""
    config = policy.model.config
    counts = torch.zeros(2, config.num_fingers, config.num_rows, config.num_columns, dtype=torch.uint8)
    joints = torch.zeros(2, config.num_joints)
    return counts, joints, counts.clone(), joints.clone()
