import csv
import io
import math

import numpy as np
import pytest

from selfseg.benchmark.jobs import Contender, find_contenders
from selfseg.benchmark.outputs import Series, log_ticks, plot
from selfseg.benchmark.tables import (
    BY_TASK,
    Column,
    as_csv,
    as_markdown,
    columns_of,
    kinds_markdown,
    standings,
    written,
)
from selfseg.core.errors import UsageError
from selfseg.measure import AreaSum, Scores


def row(name, image, covered, seed=0, scales=None, seconds=1.0, area=100.0):
    scores = Scores({"probabilistic_rand_index": covered / area}, {"covering": AreaSum(covered, area)})
    return {
        "key": {"contender": {"name": name, "preset": ""}, "seed": seed, "image": image},
        "kind": "",
        "seconds": seconds,
        "peak_memory_bytes": 2**20,
        "n_labels": 3,
        "one": scores.to_json(),
        "connected": None,
        "oracle": None,
        "scales": scales,
    }


def tree(altitudes, covered, area=100.0):
    return {
        "levels": [2, 4, 8],
        "altitudes": altitudes,
        "n_regions": [2, 4, 8],
        "rand": [0.5, 0.6, 0.7],
        "variation": [1.0, 2.0, 3.0],
        "covered": covered,
        "covered_best": max(covered),
        "area": area,
        "boundaries": [],
    }


def test_covering_is_pooled_and_seeds_have_a_spread():
    rows = [row("grid", "a", 50), row("grid", "b", 90, area=300), row("grid", "a", 70, seed=1)]
    rows.append(row("grid", "b", 150, seed=1, area=300))
    (found,) = standings(rows, "one.covering")
    first, second = 140 / 400, 220 / 400
    assert found.values["one.covering"] == pytest.approx((first + second) / 2)
    assert found.spread["one.covering"] == pytest.approx(abs(first - second) / math.sqrt(2))
    assert found.by_image == pytest.approx({"a": 0.6, "b": 0.4})
    assert found.n_images == 2


def test_trees_are_compared_at_one_altitude_for_all_images():
    """Image a is best at 4 regions and altitude 3, image b at 8 regions and altitude 3: one threshold does for both."""
    scales = [tree([9.0, 3.0, 1.0], [10, 80, 20]), tree([9.0, 6.0, 3.0], [10, 20, 80])]
    rows = [row("grid", name, 50, scales=found) for name, found in zip("ab", scales, strict=True)]
    (found,) = standings(rows, "one.covering")
    assert found.values["ods.covering"] == pytest.approx(0.8)
    assert found.values["ois.covering"] == pytest.approx(0.8)
    assert 3.0 <= found.values["level.covering"] < 6.0


def test_lists_are_compared_at_their_own_levels():
    scales = [tree(None, [10, 80, 20]), tree(None, [10, 20, 80])]
    rows = [row("grid", name, 50, scales=found) for name, found in zip("ab", scales, strict=True)]
    (found,) = standings(rows, "one.covering")
    assert found.values["ods.covering"] == pytest.approx(0.5)
    assert found.values["ois.covering"] == pytest.approx(0.8)
    assert found.curve == [(2.0, 0.1), (4.0, 0.5), (8.0, 0.5)]


def test_markdown_marks_the_best_and_what_is_an_oracle():
    rows = [row("grid", "a", 50, scales=tree(None, [1, 2, 3])), row("otsu", "a", 70)]
    found = standings(rows, "one.covering")
    text = as_markdown(found, columns_of("partition"), wanted=2)
    lines = text.splitlines()
    assert "cov. ODS*" in lines[0] and "VI, cut" not in lines[0]
    assert lines[2].startswith("| grid (1 of 2 images) | .500 ") and "**.700**" in lines[3]
    assert "–" in lines[3]


def test_csv_holds_every_value_unrounded():
    rows = [row("grid", "a", 100 / 3), row("otsu", "a", 70)]
    first, second = csv.DictReader(io.StringIO(as_csv(standings(rows, "one.covering"))))
    assert float(first["one.covering"]) == pytest.approx(1 / 3, abs=1e-6)
    assert second["contender"] == "otsu" and second["images"] == "1"


@pytest.mark.parametrize(("value", "text"), [(0.5664, ".566"), (1.25, "1.250"), (-0.2, "-.200"), (10.04, "10.040")])
def test_scores_are_written_as_usual(value, text):
    assert written(value, 3) == text


def test_every_task_has_a_first_column_that_is_no_oracle():
    for task, columns in BY_TASK.items():
        assert isinstance(columns[0], Column) and columns[0].key.startswith("one."), task


def test_a_plot_names_every_series_within_its_frame():
    series = [Series(f"method {i}", [(2.0, 0.5), (50.0, 0.5 + i / 1000)], i, i == 0) for i in range(12)]
    heights = [line.name_y for line in plot(series, "regions", "covering").lines]
    assert len(heights) == 12 and min(np.diff(sorted(heights))) >= 14.9
    assert min(heights) > 0 and max(heights) < 400
    assert plot([Series("none", [])], "x", "y") is None
    assert log_ticks(0.9, 30) == [1, 2, 5, 10, 20]


def test_a_contender_is_named_by_its_preset():
    assert Contender("feature_clustering", "fast").title == "feature_clustering-fast"
    assert Contender("grid").title == "grid"
    assert Contender("wnet", "default", "crf").title == "wnet+crf"


def test_a_refined_method_is_a_contender_of_its_own():
    plain, refined = find_contenders(["region_merging", "region_merging:default+crf"], baselines=False)
    assert plain.title == "region_merging" and refined.title == "region_merging+crf"
    assert refined.model(None, 0).refine == "crf" and plain.model(None, 0).refine is None
    with pytest.raises(UsageError, match="magic"):
        find_contenders(["region_merging+magic"], baselines=False)


def test_by_kind_each_image_counts_the_same():
    rows = []
    for image, kind, dice, ap in (
        ("a", "large", 0.9, (8, 10)),
        ("b", "small", 0.5, (1, 2)),
        ("c", "small", 0.7, (90, 100)),
    ):
        made = row("grid", image, 50)
        made["one"] = Scores({"mean_dice": dice}, {"ap_50": AreaSum(*ap)}).to_json()
        rows.append(made | {"kind": kind})
    columns, found = columns_of("instances"), standings(rows, "one.mean_dice")
    text = kinds_markdown(rows, found, columns)
    assert "| | all | large (1) | small (2) |" in text
    assert "| grid | .700 / .733 | .900 / .800 | .600 / .700 |" in text
    assert kinds_markdown([{**one, "kind": ""} for one in rows], found, columns) == ""
