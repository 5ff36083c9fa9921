"""The process with torch: killed, as by a system without memory, it costs one line and starts again; methods as forms."""

import asyncio
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image as Picture

from conftest import blobs
from selfseg.apps.studio.engine_process import choose, describe_methods
from selfseg.apps.studio.studio import Engine
from selfseg.core.errors import InputError
from selfseg.methods.base import build_config, find_method, method_names


def test_a_killed_engine_is_one_line_and_the_next_question_is_answered(photos, tmp_path):
    async def ask():
        engine = Engine(tmp_path / "engine.txt")
        try:
            question = asyncio.create_task(engine.ask("list", path=str(photos)))
            while engine._process is None:
                await asyncio.sleep(0.01)
            engine._process.kill()
            with pytest.raises(InputError, match="the process that segments ended; it starts again"):
                await question
            return await engine.ask("list", path=str(photos))
        finally:
            await engine.close()

    assert [name for name, _ in asyncio.run(ask())] == ["photo0", "photo1"]


def test_every_option_of_every_method_has_a_field_with_its_meaning_and_default():
    described = {each["name"]: each for each in describe_methods()}
    assert described.pop("auto")["fields"] == []
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


def test_the_page_reads_fields_that_the_forms_have():
    """`uses_hints` stood in the page after the forms had it no more: the box for scribbles never appeared."""
    panels = Path(str(files("selfseg.apps.studio"))) / "static" / "js" / "panels"
    asked = set(re.findall(r"chosen\(\)\??\.(\w+)", (panels / "start.js").read_text(encoding="utf-8")))
    assert asked and asked <= describe_methods()[0].keys()


def test_the_default_method_of_pictures_is_chosen_with_its_reason(tmp_path):
    Picture.fromarray(blobs()).save(tmp_path / "a.png")
    assert choose([str(tmp_path / "a.png")], None, False)[0] == "contours"
    assert choose([str(tmp_path / "a.png")], None, True) == ("feature_clustering", "it learns from annotations")
