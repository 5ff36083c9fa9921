"""Forms, recipes, formats and volumes: what the page is made of."""

import json

import numpy as np
import pytest

from selfseg.apps.studio.formats import OWN, further_formats, label_kinds
from selfseg.apps.studio.forms import describe_methods
from selfseg.apps.studio.recipes import as_command, as_python
from selfseg.apps.studio.spec import Spec
from selfseg.apps.studio.volumes import as_nifti
from selfseg.core.errors import InputError
from selfseg.methods.base import build_config, find_method, method_names
from selfseg.refine.edits import Edits, Merge


def test_every_option_of_every_method_has_a_field_with_its_meaning_and_default():
    described = {each["name"]: each for each in describe_methods()}
    assert sorted(described) == sorted(method_names())
    assert json.loads(json.dumps(described)) == described
    for name, form in described.items():
        fields = {field["name"]: field for field in form["fields"]}
        config = find_method(name).Config
        assert set(fields) == set(config.model_fields) and form["text"]
        for key, info in config.model_fields.items():
            assert fields[key]["live"] == (key in find_method(name).live)
            assert fields[key]["help"] == " ".join((info.description or "").split()) != ""
            default = info.get_default(call_default_factory=True)
            assert fields[key]["default"] == (list(default) if isinstance(default, tuple) else default)
        for preset, values in form["presets"].items():
            assert (
                build_config(name, preset).model_dump(mode="json").items()
                >= {k: v for k, v in values.items() if not isinstance(v, tuple)}.items()
            )


def test_kinds_and_bounds_of_fields():
    fields = {
        field["name"]: field
        for field in next(m for m in describe_methods() if m["name"] == "feature_clustering")["fields"]
    }
    assert (
        fields["n_classes"]["optional"]
        and fields["n_classes"]["kind"] == "integer"
        and fields["n_classes"]["max"] == 255
    )
    assert fields["border"]["kind"] == "choice" and fields["border"]["choices"] == ["repeat", "zeros"]
    assert (fields["momentum"]["min"], fields["momentum"]["below"]) == (0, 1)
    assert fields["learning_rate"]["above"] == 0 and not fields["learning_rate"]["optional"]


def test_commands_name_what_differs_from_the_defaults_only(tmp_path):
    plain = Spec("a", "wnet", inputs=("my photo.png",))
    assert as_command(plain, tmp_path, Edits(), tmp_path / "e.json") == (
        "selfseg fit 'my photo.png' --method wnet -o model\nselfseg predict model 'my photo.png' -o out\n"
    )
    more = Spec(
        "a", "wnet", "fast", 4, 7, "range", options={"continuity": 0.5, "flag": True}, inputs=("a.tif",), axes="ZYX"
    )
    command = as_command(more, tmp_path, Edits(steps=(Merge(2, 1),)), tmp_path / "e.json")
    for words in (
        "--preset fast",
        "--classes 4",
        "--seed 7",
        "--prepare range",
        "--set continuity=0.5",
        "--set flag=true",
        "--axes ZYX",
    ):
        assert words in command
    assert f"--edits {tmp_path / 'e.json'}" in command
    forked = Spec("a", inputs=("a.tif",), origin={"run": "001", "step": 3})
    assert as_command(forked, tmp_path / "m", Edits(), tmp_path).startswith(f"selfseg predict {tmp_path / 'm'} a.tif")
    compile(as_python(more, tmp_path, Edits(0.5)), "recipe", "exec")


def test_formats_are_those_of_the_registries():
    found = further_formats()
    assert not set(found) & set(OWN) and {"nnunet", "coco", "numpy"} <= set(found)
    assert "tiff" not in label_kinds() and all(title for title in found.values())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_volumes_for_the_3d_view_are_read_by_nibabel_as_they_are(tmp_path, dtype):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    path = tmp_path / "v.nii"
    path.write_bytes(as_nifti(volume, (3.0, 2.0, 1.5)))
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.dtype(dtype) and image.header.get_zooms() == (1.5, 2.0, 3.0)
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), volume)
    assert np.allclose(image.affine[:3, :3], np.diag([1.5, -2.0, 3.0]))


def test_a_picture_is_no_volume():
    for shape in ((1, 5, 6), (5, 6)):
        with pytest.raises(InputError, match="volume"):
            as_nifti(np.zeros(shape, np.uint8), (1, 1, 1))
