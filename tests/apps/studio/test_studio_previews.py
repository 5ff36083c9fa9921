"""What is seen before there is a result: the model's own classes, in their colours, small."""

import json

import numpy as np
from PIL import Image as Pillow

from selfseg.apps.studio.runs import Runs, Spec
from selfseg.apps.studio.studio import last_preview
from selfseg.apps.studio.worker import PREVIEW_SIDE, write_first_preview
from selfseg.core.image import Image
from selfseg.learning.segmenter import Segmenter


def test_the_first_preview_has_the_labels_and_colours_of_the_result(project):
    tones = np.repeat(np.repeat(np.array([[30, 120], [220, 120]], np.uint8), 700, 0), 900, 1)
    image = Image(np.stack([tones] * 3, -1), "YXC", name="tones")
    model = Segmenter("region_merging", n_classes=3, prepare="size=240,range").fit(image)
    run = Runs(project.folder / "runs").create(Spec("early"))
    write_first_preview(run.folder, model, image, 1)
    told = last_preview(run)
    assert (told.image, told.step, len(told.areas)) == ("tones", 1, 3)
    assert abs(sum(row["share"] for row in told.areas) - 1) < 1e-6
    shown = np.asarray(Pillow.open(run.folder / "previews" / "step-000001.png").convert("RGBA"))
    assert max(shown.shape) <= PREVIEW_SIDE
    result = model.predict(image)
    rgba = {row.id: row.rgba for row in result.table.classes}
    for y in (0.1, 0.4, 0.6, 0.9):
        for x in (0.1, 0.4, 0.6, 0.9):
            label = result.labels[int(y * 1400), int(x * 1800)]
            assert tuple(shown[int(y * shown.shape[0]), int(x * shown.shape[1])])[:3] == rgba[label][:3], (y, x)
    facts = json.loads((run.folder / "previews" / "step-000001.json").read_text())
    assert {tuple(row["rgba"]) for row in facts["areas"]} == {tuple(colour) for colour in rgba.values()}
