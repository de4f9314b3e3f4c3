# pyright: reportAttributeAccessIssue=false
import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.lego.joints import JointLimits, break_overloaded, loads, pieces
from cerebella.envs.workcell.lego.task import Lego

LIMITS = JointLimits(force_n=(7.0, 7.0), torque_nm=(0.2, 0.2))
ENVIRONMENT = WorkcellEnvironment(Lego(2, LIMITS), with_images=False)


def load_the_joint(force_n: float, torque_nm: float, start_s: float = 1.0) -> tuple[bool, float, float]:
    """Load the only joint straight and in bending, weightless, for 60 steps; whether it held, and what it felt last."""
    ENVIRONMENT.reset(0)
    cell, episode = ENVIRONMENT.cell, ENVIRONMENT.episode
    model, data = cell.model, cell.data
    model.opt.gravity[:] = 0.0
    data.time = start_s
    lower, upper = episode.bodies[episode.joints.pairs[0]]
    equality = episode.joints.equalities[0]
    along = data.xmat[upper].reshape(3, 3)[:, 0]
    felt = (np.zeros(1), np.zeros(1))
    for step in range(60):
        share = min(1.0, (step + 1) / 30.0)
        for body, sign, anchor in ((upper, 1.0, slice(0, 3)), (lower, -1.0, slice(3, 6))):
            arm_m = data.xmat[body].reshape(3, 3) @ model.eq_data[equality, anchor]
            force = np.array([0.0, 0.0, sign * share * force_n])
            data.xfrc_applied[body, :3] = force
            data.xfrc_applied[body, 3:] = sign * share * torque_nm * along + np.cross(arm_m, force)
        mujoco.mj_step(model, data)
        felt = loads(cell, episode.joints)
        break_overloaded(cell, episode.joints)
        if not data.eq_active[equality]:
            break
    return bool(episode.joints.is_joined(cell)[0]), float(felt[0][0]), float(felt[1][0])


def test_a_joint_feels_what_pulls_and_bends_it() -> None:
    is_whole, force_n, torque_nm = load_the_joint(4.0, 0.1)
    assert is_whole
    assert force_n == pytest.approx(4.0, rel=0.03)
    assert torque_nm == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize(
    ("force_n", "torque_nm", "holds"),
    [
        (6.6, 0.0, True),
        (7.4, 0.0, False),
        (0.0, 0.19, True),
        (0.0, 0.21, False),
        (4.6, 0.13, True),  # on a circle of 0.92
        (5.3, 0.15, False),  # on a circle of 1.07
    ],
)
def test_a_joint_breaks_at_its_limit_and_not_below(force_n: float, torque_nm: float, holds: bool) -> None:
    assert load_the_joint(force_n, torque_nm)[0] is holds


def test_nothing_breaks_in_the_first_tenth_of_a_second() -> None:
    assert load_the_joint(7.4, 0.0, start_s=-0.1)[0]


def test_what_is_broken_stays_broken_and_a_reset_joins_it_again() -> None:
    assert not load_the_joint(9.0, 0.0)[0]
    cell, episode = ENVIRONMENT.cell, ENVIRONMENT.episode
    cell.data.xfrc_applied[:] = 0.0
    for _ in range(5):
        mujoco.mj_step(cell.model, cell.data)
        break_overloaded(cell, episode.joints)
    assert not episode.joints.is_joined(cell).any()
    ENVIRONMENT.reset(0)
    assert ENVIRONMENT.episode.joints.is_joined(ENVIRONMENT.cell).all()


def test_pieces() -> None:
    assert pieces(5, np.array([[3, 1], [1, 4]])) == [[0], [1, 3, 4], [2]]
    assert pieces(2, np.zeros((0, 2), dtype=np.int64)) == [[0], [1]]


def test_limits_are_drawn_within_their_ranges_and_checked() -> None:
    environment = WorkcellEnvironment(Lego(5, JointLimits((6.0, 8.0), (0.1, 0.2))), with_images=False)
    found = []
    for seed in range(5):
        environment.reset(seed)
        found += environment.episode.joints.force_limit_n.tolist()
        assert (environment.episode.joints.torque_limit_nm <= 0.2).all()
    assert 6.0 <= min(found) < 6.5 < 7.5 < max(found) <= 8.0
    with pytest.raises(ValueError, match="force_n"):
        JointLimits(force_n=(6.0, 5.0))
