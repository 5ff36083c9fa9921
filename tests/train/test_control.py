"""Orders from outside, checkpoints that are kept, and runs that begin from another's."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch

from conftest import blobs
from selfseg.core.errors import Interrupted, ModelError
from selfseg.core.progress import Silent
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import build_config, find_method
from selfseg.train.loop import OptionChange, Order, continue_optimizer, load_checkpoint, save_checkpoint

SMALL = {"n_features": 8, "n_clusters": 8, "min_classes": 1, "iterations": 12, "prepare": "range"}


def fit(folder, options=None, **how):
    model = Segmenter("feature_clustering", options={**SMALL, **(options or {})})
    return model.fit(blobs(24, 30), out=folder, checkpoint_every=0, preview_every=1e9, **how)


def after(n_steps: int, order: Order | OptionChange):
    asked = []

    def control() -> Order | OptionChange:
        asked.append(1)
        return order if len(asked) == n_steps else Order.GO

    return control


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_paused_and_resumed_equals_straight(tmp_path):
    fit(tmp_path / "straight")
    with pytest.raises(Interrupted, match="after 5 of 12"):
        fit(tmp_path / "paused", control=after(5, Order.PAUSE))
    fit(tmp_path / "paused", resume=True)
    assert weights(tmp_path / "paused") == weights(tmp_path / "straight")


def test_finish_ends_the_training_there_with_a_model(tmp_path):
    model = fit(tmp_path / "run", control=after(4, Order.FINISH))
    assert steps(tmp_path / "run") == [1, 2, 3, 4] and model.facts_["steps"] == 4
    shorter = fit(tmp_path / "short", {"iterations": 4})
    for name, tensor in shorter.method_.state().items():
        assert torch.equal(tensor, model.method_.state()[name]), name


def test_options_changed_on_the_way_are_noted_and_a_resumed_run_goes_on_with_them(tmp_path):
    options, heard = {"continuity": 0.0, "iterations": 9}, []
    whole = fit(tmp_path / "whole", control=after(5, OptionChange(options)), changed=lambda *news: heard.append(news))
    assert heard == [(5, options)] and whole.facts_["changes"] == [{"step": 5, "options": options}]
    assert whole.options == {**SMALL, **options} and whole.facts_["config"]["continuity"] == 0.0
    rows = [json.loads(line) for line in (tmp_path / "whole" / "journal.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert all(("continuity" in row) == (row["step"] <= 5) for row in rows)

    orders = iter([Order.GO] * 4 + [OptionChange(options), Order.GO, Order.PAUSE])
    with pytest.raises(Interrupted, match="after 7 of 9"):
        fit(tmp_path / "cut", control=lambda: next(orders))
    resumed = fit(tmp_path / "cut", options, resume=True)
    assert resumed.facts_["changes"] == whole.facts_["changes"]
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_what_cannot_be_changed_on_the_way_is_said_and_the_run_goes_on(tmp_path):
    class Ear(Silent):
        said: ClassVar[list[str]] = []

        def say(self, message):
            self.said.append(message)

    fit(tmp_path / "straight")
    orders = iter([OptionChange({"n_features": 16}), OptionChange({"continuity": -1.0}), *[Order.GO] * 99])
    model = fit(tmp_path / "run", control=lambda: next(orders), progress=Ear())
    assert weights(tmp_path / "run") == weights(tmp_path / "straight") and model.facts_["changes"] == []
    assert [words in text for words, text in zip(("n_features", "continuity"), Ear.said[-2:], strict=True)] == [
        True
    ] * 2


def test_every_checkpoint_is_kept_and_one_can_be_forked(tmp_path):
    fit(tmp_path / "parent", keep_checkpoints=True)
    kept = sorted(path.name for path in (tmp_path / "parent" / "checkpoints").iterdir())
    assert (
        kept[:3] == ["step-000001.safetensors", "step-000002.safetensors", "step-000003.safetensors"]
        and len(kept) == 12
    )
    fit(tmp_path / "same", begin=tmp_path / "parent" / "checkpoints" / "step-000007.safetensors")
    assert steps(tmp_path / "same") == [8, 9, 10, 11, 12]
    assert weights(tmp_path / "same") == weights(tmp_path / "parent")  # the same options: nothing differs
    fit(tmp_path / "other", {"continuity": 0.0}, begin=tmp_path / "parent" / "checkpoints" / "step-000007.safetensors")
    assert weights(tmp_path / "other") != weights(tmp_path / "same")


def test_a_number_of_classes_can_be_asked_for_later(tmp_path):
    fit(tmp_path / "parent", keep_checkpoints=True)
    last = tmp_path / "parent" / "checkpoints" / "step-000012.safetensors"
    fewer = Segmenter("feature_clustering", n_classes=2, options=SMALL).fit(
        blobs(24, 30), out=tmp_path / "two", begin=last
    )
    assert len(fewer.table_) == 2 and set(np.unique(fewer.predict(blobs(24, 30)).labels)) <= {1, 2}


def test_a_state_of_another_size_is_refused_in_one_line(tmp_path):
    fit(tmp_path / "parent", keep_checkpoints=True)
    last = tmp_path / "parent" / "checkpoints" / "step-000012.safetensors"
    with pytest.raises(ModelError, match="fits the options"):
        fit(tmp_path / "wide", {"n_features": 16}, begin=last)


def test_options_of_an_optimiser_are_the_new_ones_where_they_changed(tmp_path):
    kind = find_method("feature_clustering")
    first = kind(build_config("feature_clustering", **SMALL), 3)
    optimizer = first.optimizers()["net"]
    optimizer.param_groups[0]["lr"] = 0.025  # as a schedule would have it by now
    save_checkpoint(tmp_path / "c.safetensors", 3, 1.0, first.state(), {"net": optimizer})
    checkpoint = load_checkpoint(tmp_path / "c.safetensors")
    for changes, expected in (
        ({}, (0.025, 0.9)),
        ({"momentum": 0.5}, (0.025, 0.5)),
        ({"learning_rate": 0.3}, (0.3, 0.9)),
    ):
        fresh = kind(build_config("feature_clustering", **{**SMALL, **changes}), 3).optimizers()["net"]
        continue_optimizer(fresh, "net", checkpoint, same_run=False)
        assert (fresh.param_groups[0]["lr"], fresh.param_groups[0]["momentum"]) == expected
