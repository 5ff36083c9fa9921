"""Videos in the studio: frames are those of the file in whatever order they are looked at, within a bound; segmented one by one."""

import numpy as np
import pytest
import tifffile

from conftest import write_clip
from selfseg import Segmenter
from selfseg.apps.studio import pictures as studio_pictures
from selfseg.apps.studio.engine_process import count_frame, write_objects
from selfseg.apps.studio.exports import save_video
from selfseg.apps.studio.pictures import Reel, TilePosition, image_tile, open_picture
from selfseg.apps.studio.results import FIRST_FRAMES, find_result, frames_of, store_results
from selfseg.apps.studio.runs import Spec
from selfseg.core.errors import InputError
from selfseg.read import Source
from selfseg.read.video import VideoFrames
from selfseg.refine.edits import Counting, Edits, Merge, Painted, Remade, runs_of
from selfseg.segmenting.images import leaves_of

pytest.importorskip("av", reason="no PyAV: pip install 'selfseg[video]'")

N_FRAMES = 30


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N_FRAMES, 36, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("clip") / "noise.mkv"
    return write_clip(path, N_FRAMES, (36, 48), codec="ffv1", pixels="bgr0", pictures=pictures, rate=12)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A clip in which a bright square moves over a dark ground."""
    frames = np.full((N_FRAMES, 40, 60, 3), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[10:26, number : number + 20] = (220, 180, 90)
    path = tmp_path_factory.mktemp("scene") / "square.mkv"
    return write_clip(path, N_FRAMES, (40, 60), codec="ffv1", pixels="bgr0", pictures=frames)


@pytest.fixture(scope="module")
def model(scene):
    options = {"superpixel_size": 30.0}
    return Segmenter("region_merging", n_classes=2, options=options).fit(scene, frames=[0, N_FRAMES - 1])


def test_frames_are_those_of_the_file_in_any_order_and_few_are_kept(clip, pictures, monkeypatch):
    monkeypatch.setattr(studio_pictures, "REEL_BYTES", 5 * 36 * 48 * 3)
    reel = Reel(VideoFrames(clip))
    assert (reel.shape, len(reel), reel.nbytes) == ((N_FRAMES, 1, 36, 48, 3), N_FRAMES, 5 * 36 * 48 * 3)
    for number in (0, 1, 2, 17, 16, 3, 29, 29, 28, 0, 5, 6):
        assert np.array_equal(reel[number][0], pictures[number]), number
        assert len(reel._kept) <= 5


def test_going_forward_decodes_every_frame_once(clip, monkeypatch):
    asked = []
    walk = VideoFrames.frames_from
    monkeypatch.setattr(VideoFrames, "frames_from", lambda self, number: asked.append(number) or walk(self, number))
    reel = Reel(VideoFrames(clip))
    for number in range(N_FRAMES):
        reel[number]
    assert asked == [0]


def test_a_video_is_a_picture_whose_tiles_are_its_frames(clip, pictures):
    picture = open_picture(Source("noise", clip), None)
    facts = picture.facts()
    assert (facts["frames"], facts["fps"], facts["video"], facts["axes"]) == (N_FRAMES, 12.0, True, "TYXC")
    raw = image_tile(picture, TilePosition("z", 21, 0, 0, 0, 0), [0, 1, 2])
    assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(36, 48, 3), pictures[21])


def test_a_broken_video_is_refused_in_one_line(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all" * 50)
    with pytest.raises(InputError, match="broken"):
        open_picture(Source("broken", broken), None)


def test_a_run_segments_the_first_frames_and_others_when_they_are_looked_at(scene, model, tmp_path):
    source, heard = Source("square", scene), []
    assert [number for number, _ in frames_of(source, None)] == list(range(FIRST_FRAMES))
    assert store_results(model, source, None, tmp_path, 27, heard.append) == 1 and heard == [27]
    stored = find_result(tmp_path, "square", 27)
    found = np.append(stored.classes, 0)[stored.volume("superpixels")[0]]
    assert np.array_equal(found, model.predict_image(VideoFrames(scene).frame(27)).labels)
    assert find_result(tmp_path, "square", 26) is None


def test_a_video_is_exported_frame_by_frame_as_edited(scene, model, tmp_path):
    edits = Edits(steps=(Merge(2, 1),), names={1: "all"})
    files = save_video(tmp_path / "merged", Source("square", scene), model, edits)
    assert {"labels/square.tif", "classes.json"} <= set(files)
    assert np.array_equal(tifffile.imread(tmp_path / "merged/labels/square.tif"), np.ones((N_FRAMES, 40, 60)))
    level = Edits(level=1e9)  # everything merges into one region a frame
    save_video(tmp_path / "coarse", Source("square", scene), model, level)
    labels = tifffile.imread(tmp_path / "coarse/labels/square.tif")
    for number in (0, 13, 29):
        result = model.predict_image(VideoFrames(scene).frame(number))
        assert np.array_equal(labels[number], level.labels(leaves_of(model.fitted, result)))


def test_a_frame_that_was_corrected_is_exported_so_and_the_others_are_not(scene, model, tmp_path):
    plain, painted = tmp_path / "plain", tmp_path / "painted"
    save_video(plain, Source("square", scene), model, Edits())
    edits = Edits(corrections={"square": (Painted(2, 4.0, ((35.0, 50.0),), frame=5),)})
    save_video(painted, Source("square", scene), model, Edits.from_json(edits.to_json()))
    before, after = (tifffile.imread(folder / "labels/square.tif") for folder in (plain, painted))
    assert set(np.argwhere(before != after)[:, 0]) == {5}
    assert (after[5][before[5] != after[5]] == 2).all() and (after[5, 34:36, 49:51] == 2).all()


def test_objects_of_a_video_are_counted_frame_by_frame_with_those_made_by_hand(scene, model, tmp_path):
    model.save(tmp_path / "runs/001/model")
    Spec("run", "region_merging", "default", 2, 0, {}).save(tmp_path / "runs/001")
    run, square = tmp_path / "runs/001", Source("square", scene)
    store_results(model, square, None, run, 2)
    bright = int(model.predict_image(VideoFrames(scene).frame(0)).labels[15, 10])
    edits = Edits(
        counting=Counting("components", (bright,)),
        corrections={"square": (Remade(runs_of(np.ones((40, 60), bool)), (), frame=2),)},
    ).to_json()
    asked = {"name": "square", "path": str(scene), "axes": None, "run": str(run), "edits": edits}
    assert count_frame(**asked, frame=2)["n"] == 0
    store_results(model, square, None, run, 3)
    sizes = count_frame(**asked, frame=3)["columns"]["size"]
    assert abs(max(sizes) - 320) < 40
    found = write_objects(str(run / "model"), **asked, out=str(tmp_path / "out"))
    numbers = [len(table["id"]) for table in found["tables"]]
    assert len(numbers) == N_FRAMES and numbers[2] == 0 and min(numbers[:2] + numbers[3:]) >= 1
    assert sorted(found["tables"][3]["size"]) == sorted(
        sizes
    )  # of a frame that the run has, the same objects as on the page
    assert all(set(table["frame"]) <= {number} for number, table in enumerate(found["tables"]))
    assert len(found["files"]) == N_FRAMES
    assert [tifffile.imread(tmp_path / "out" / name).max() for name in found["files"]] == numbers
