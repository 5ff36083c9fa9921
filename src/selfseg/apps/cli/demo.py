"""`selfseg demo`: a real photograph, learned and segmented, before the user has done anything."""

import time
from pathlib import Path

from rich.console import Console

from selfseg.apps.cli.app import Bar, Out, Quiet, app

PHOTO = "coffee.png"


@app.command
def demo(*, out: Out = Path("demo-out"), quiet: Quiet = False) -> int:
    """Segment a real photograph that comes with scikit-image, and say where the pictures are."""
    import skimage.data

    from selfseg.learning.run import predict
    from selfseg.learning.segmenter import Segmenter

    photo = Path(skimage.data.__file__).parent / PHOTO
    console = Console(quiet=quiet, highlight=False)
    for method, what in (
        ("contours", "regions between contours; nothing is learned"),
        ("feature_clustering", "features learned from this one photo"),
    ):
        folder = out / method
        console.print(f"[bold]{method}[/bold]: {what}")
        begun = time.monotonic()
        model = Segmenter(method, seed=0)
        model.fit(photo, out=folder / "model", overwrite=True, progress=Bar(quiet))
        predict(model, photo, folder, progress=Bar(quiet))
        console.print(f"  {len(model.table_)} classes in {time.monotonic() - begun:.1f} s")
        files = {"picture": f"overlay/{photo.stem}.png", "labels": f"labels/{photo.stem}.tif", "report": "report.html"}
        for kind, file in files.items():
            console.print(f"  {kind:9}{folder / file}", soft_wrap=True)
    console.print(f"Your own pictures: selfseg segment PICTURES -o OUT    (photo: {PHOTO} of scikit-image)")
    return 0
