"""The options of every method that is found: described, valid in every preset, the same after storing."""

import json

import pytest

from selfseg.methods.base import build_config, find_method, method_names

every_method = pytest.mark.parametrize("name", method_names())


def test_both_first_methods_are_found():
    assert {"feature_clustering", "region_merging"} <= set(method_names())


@every_method
def test_config_round_trip(name):
    config = build_config(name)
    again = type(config).build(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config


@every_method
def test_every_option_is_described(name):
    for field, info in find_method(name).Config.model_fields.items():
        assert info.description, f"{name}.{field} has no docstring"


@every_method
def test_every_preset_is_valid(name):
    for preset in ["default", *find_method(name).presets]:
        build_config(name, preset)
