"""Which settings and modes are possible."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.interfaces import MAX_CANDIDATES, Guidance
from cerebella.runtime.chunks import check_horizons
from cerebella.runtime.executor_config import (
    GUIDED_MODES,
    MODES,
    ExecutorConfig,
    check_mode,
    default_execute_horizon,
    modes_of,
)

from .tagged import make_metadata

PLAIN, TRAINED = make_metadata(8, 0), make_metadata(8, 4)


def test_a_policy_fits_the_modes_for_which_it_has_what_they_need() -> None:
    assert modes_of(PLAIN) == ("sync", "naive", "ensemble")
    assert modes_of(TRAINED) == ("sync", "naive", "ensemble", "prefix")
    assert modes_of(replace(PLAIN, supports_guidance=True)) == ("sync", "naive", "ensemble", *GUIDED_MODES)
    assert modes_of(replace(TRAINED, supports_guidance=True)) == MODES
    for metadata in (PLAIN, TRAINED, replace(TRAINED, supports_guidance=True)):
        for mode in MODES:
            if mode in modes_of(metadata):
                check_mode(mode, metadata)
            else:
                with pytest.raises(ValueError, match=f"mode '{mode}' needs; modes that fit: sync, naive, ensemble"):
                    check_mode(mode, metadata)


@given(st.sampled_from(MODES), st.integers(0, 40), st.integers(1, 60))
def test_the_default_execute_horizon_fits_wherever_one_does(mode: str, delay: int, horizon: int) -> None:
    s = default_execute_horizon(mode, delay, horizon)
    assert 1 <= s <= horizon
    if mode == "sync":
        assert s == max(1, horizon // 2)
    elif 2 * delay <= horizon:
        check_horizons(delay, s, horizon)
        assert s == delay + 2 or s == horizon - delay < delay + 2


def test_unknown_modes_list_the_known_ones() -> None:
    known = "known modes: sync, naive, ensemble, guided, guided_identity, best_of_n, prefix"
    with pytest.raises(ValueError, match=known):
        check_mode("async", PLAIN)
    with pytest.raises(ValueError, match=known):
        ExecutorConfig("async", 4)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("number", "words"), [(0, "must be 1 or more; got 0"), (65, "must be 64 or less; got 65")])
def test_the_number_of_candidates_is_bounded(number: int, words: str) -> None:
    with pytest.raises(ValueError, match=f"num_candidates {words}"):
        ExecutorConfig("best_of_n", 4, num_candidates=number)
    assert ExecutorConfig("best_of_n", 4, num_candidates=MAX_CANDIDATES).num_candidates == 64


@pytest.mark.parametrize("number", [-1, 65])
def test_so_it_is_in_a_request(number: int) -> None:
    with pytest.raises(ValueError, match=rf"num_candidates must be in 0\.\.64 \(0 pulls instead\); got {number}"):
        Guidance(np.ones((2, 4), np.float32), 1, 2, num_candidates=number)
