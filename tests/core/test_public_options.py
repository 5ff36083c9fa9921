import inspect
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from selfseg.core.errors import UsageError
from selfseg.core.options import FitOptions, ModelOptions, PredictOptions, RunOptions, option_names, share_out

KINDS = (ModelOptions, FitOptions, RunOptions, PredictOptions)


@pytest.mark.parametrize(
    ("given", "near"), [("sed", "seed"), ("clases", "n_classes"), ("slces", "slices"), ("frmes", "frames")]
)
def test_an_unknown_option_is_one_line_that_names_the_nearest(given, near):
    with pytest.raises(
        UsageError, match=f"^option '{given}': expected one of .*, got {given}; did you mean {near}\\?$"
    ):
        share_out({given: 1}, *KINDS)
    owner = next(kind for kind in KINDS if near in option_names(kind))
    with pytest.raises(UsageError, match=f"did you mean {near}"):
        owner(**{given: 1})


def test_an_option_of_several_classes_goes_to_each():
    fit, predict = share_out({"axes": "YX", "windows": 3, "link": True}, FitOptions, PredictOptions)
    assert (fit.axes, fit.windows, predict.axes, predict.link) == ("YX", 3, "YX", True)


def test_texts_are_checked_at_once_and_read_when_they_are_wanted():
    assert FitOptions(memory="2GB", frames=" 0, 40").memory_bytes == 2 * 10**9
    assert FitOptions(frames=" 0, 40,80").frame_numbers == FitOptions(frames=[0, 40, 80]).frame_numbers == (0, 40, 80)
    assert FitOptions().frame_numbers is None and FitOptions(memory=5).memory_bytes == 5
    for wrong in ({"memory": "much"}, {"slices": "q"}, *({"frames": text} for text in ("", "a", "1,", "1;2", "-3"))):
        with pytest.raises(UsageError):
            FitOptions(**wrong)


def test_signatures_are_readable_and_options_do_not_change():
    names = list(inspect.signature(ModelOptions).parameters)
    assert names[:2] == ["method", "n_classes"] and set(names) == set(option_names(ModelOptions))
    with pytest.raises(FrozenInstanceError):
        ModelOptions().seed = 3


def test_nothing_heavy_is_imported():
    code = "import selfseg.core.options, sys; assert not {'torch', 'scipy', 'pydantic', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
