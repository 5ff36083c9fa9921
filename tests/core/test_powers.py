import numpy as np
import pytest

from selfseg.core.powers import power_of_e, power_of_two


@pytest.mark.parametrize(("power", "exact", "least"), [(power_of_two, np.exp2, -125.0), (power_of_e, np.exp, -87.0)])
def test_powers_are_exact_to_float32(power, exact, least):
    x = np.concatenate([np.linspace(least, 0, 20_001), -np.arange(-least + 1)]).astype(np.float32)
    powers = np.array([power(value) for value in x])
    np.testing.assert_allclose(powers, exact(x.astype(float)), rtol=3e-7)
    assert power(np.float32(-1e9)) == pytest.approx(exact(least), rel=3e-7)
