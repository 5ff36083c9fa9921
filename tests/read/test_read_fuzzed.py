"""Fuzzing: no bytes make a reader crash, hang, or say more than one line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference.damage import WHOLE, flipped, outcome, some_of, write
from selfseg.read import read_image


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_many_flipped_bytes_never_crash(tmp_path, caplog, name):
    rng = np.random.default_rng(7)
    for attempt in range(300 if name == "labelled.h5" else 3000):
        path = write(tmp_path, name, flipped(WHOLE[name], attempt, rng))
        got = outcome(path, caplog, some_of if attempt % 2 else read_image)
        assert isinstance(got, str) or got.data.size > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_what_hypothesis_makes_of_a_file_never_crashes(tmp_path, caplog, name):
    whole = WHOLE[name]

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(
        st.integers(0, len(whole)),
        st.integers(0, 64),
        st.binary(max_size=64),
        st.sampled_from([b"", whole[:512], whole[-512:]]),
    )
    def mutated(start, removed, put, end):
        got = outcome(write(tmp_path, name, whole[:start] + put + whole[start + removed :] + end), caplog)
        assert isinstance(got, str) or got.data.size > 0

    mutated()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", sorted({".nii.gz", *(Path(name).suffix for name in WHOLE)} - {".gz"}))
def test_arbitrary_bytes_are_one_line(tmp_path, caplog, suffix):
    starts = [b"", *sorted({whole[:n] for whole in WHOLE.values() for n in (4, 16, 132, 352)})]

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(st.sampled_from(starts), st.binary(max_size=2000))
    def arbitrary(start, rest):
        outcome(write(tmp_path, f"any{suffix}", start + rest), caplog)

    arbitrary()
