"""How much is lost by choosing a segmentation without truth? Each criterion chooses a level for each image.

    python benchmarks/quality/label_free.py --data DATA --set bsds500 --split val -o val.jsonl

`--data` is a folder with `bsds500/images/{train,val}/*.jpg`, `bsds500/groundTruth/{train,val}/*.npz` (one array
`segmentations`, `[annotators Y X]`), `dsb2018/{images,labels}/*.png` and `isbi2012/train-{volume,labels}_00-19.tif`. Families of
segmentations: `label_free_images.py`; what the tables say: `label_free_tables.py`. Rows are written image by image; a run that is cut off
goes on where it was.
"""

import argparse
import json
import platform
import subprocess
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from label_free_images import FAMILIES, study
from label_free_tables import tables


def pictures(options: argparse.Namespace) -> list[Path]:
    folder = options.data / options.set / "images"
    if options.set == "isbi2012":
        found = [folder.with_name("train-volume_00-19.tif") / f"{section:02}" for section in range(20)]
    else:
        found = sorted((folder / options.split).glob("*.jpg") if options.set == "bsds500" else folder.glob("*.png"))
    limit = min(options.limit or len(found), len(found))
    return [found[i * len(found) // limit] for i in range(limit)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=sorted(FAMILIES), default="bsds500")
    parser.add_argument("--split", default="val")
    parser.add_argument("--families", default="", help="names between commas; all if empty")
    parser.add_argument("--limit", type=int, default=0, help="images, evenly taken; 0 = all")
    parser.add_argument("--no-stability", action="store_true", help="a quarter of the segmentations")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, default=Path("label_free.jsonl"))
    options = parser.parse_args()
    families = tuple(options.families.split(",")) if options.families else tuple(FAMILIES[options.set])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(row["image"], row["family"]) for row in rows}
    with (
        ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool,
        options.out.open("a", encoding="utf-8") as file,
    ):
        jobs = []
        for path in pictures(options):
            todo = tuple(family for family in families if (path.stem, family) not in done)
            if todo:
                jobs.append(pool.submit(study, options.set, path, todo, not options.no_stability))
        for job in as_completed(jobs):
            new = [row | {"commit": commit} for row in job.result()]
            file.writelines(json.dumps(row) + "\n" for row in new)
            file.flush()
            rows += new
    wanted = {path.stem for path in pictures(options)}
    rows = [row for row in rows if row["image"] in wanted and row["family"] in families]
    print(f"{options.set} {options.split}, commit {commit}, {platform.machine()}")
    print(tables(rows, {"bsds500": "covering", "dsb2018": "dice", "isbi2012": "v_rand"}[options.set]))


if __name__ == "__main__":
    main()
