"""The datasets as folders: fake ones made here, and the real ones where they are at hand."""

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import check_axes
from selfseg.read.datasets import count_present, dataset_names, find_dataset, verify

RNG = np.random.default_rng(0)
NAMES = ["bsds500", "dsb2018", "isbi2012", "ms_flair", "skimage_photos"]
REAL = {"bsds500": (200, 100), "dsb2018": (42, 18), "isbi2012": (13, 7), "ms_flair": (1,)}


def picture(path, shape=(8, 9, 3), dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.integers(0, 5, shape).astype(dtype)
    Picture.fromarray(array).save(path)
    return array


def make_bsds500(root):
    truths = {}
    for split, names in (("train", ["2092", "100075"]), ("val", ["3096"])):
        for name in names:
            picture(root / f"bsds500/images/{split}/{name}.jpg")
            path = root / f"bsds500/groundTruth/{split}/{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            truths[name] = RNG.integers(0, 4, (3, 8, 9), dtype=np.uint16)
            np.savez_compressed(path, segmentations=truths[name])
    return truths


def make_dsb2018(root):
    names = ["00071198d059", "7798ca1ddb31", "2255d5aba044", "0bf4b1441676", "ffffffffffff"]
    (root / "dsb2018").mkdir()
    (root / "dsb2018/index.csv").write_text("id,kind\nffffffffffff,electron\n")
    for name in names:
        picture(root / f"dsb2018/images/{name}.png")
    return {name: picture(root / f"dsb2018/labels/{name}.png", (8, 9), np.uint16)[None] for name in names}


def make_isbi2012(root):
    (root / "isbi2012").mkdir()
    image = RNG.integers(0, 256, (20, 8, 9), dtype=np.uint8)
    labels = RNG.integers(0, 2, (20, 8, 9), dtype=np.uint8)
    tifffile.imwrite(root / "isbi2012/train-volume_00-19.tif", image, photometric="minisblack", compression="zlib")
    tifffile.imwrite(root / "isbi2012/train-labels_00-19.tif", labels * 255, photometric="minisblack")
    return {f"slice_{number:02d}": labels[number, None] for number in range(20)}


def make_ms_flair(root):
    nibabel = pytest.importorskip("nibabel")
    (root / "flair").mkdir()
    truths = {}
    for case in ("p1", "p2"):
        brain = RNG.normal(50, 9, (5, 6, 7)).astype(np.float32)
        brain[0] = -0.5
        mask = RNG.integers(0, 2, (5, 6, 7), dtype=np.uint8)
        for kind, array in (("flair", brain), ("mask", mask)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / f"flair/{case}_{kind}.nii.gz")
        truths[case] = mask.transpose(2, 1, 0)[None]
    return truths


MAKERS = {"bsds500": make_bsds500, "dsb2018": make_dsb2018, "isbi2012": make_isbi2012, "ms_flair": make_ms_flair}


def check_items(dataset, data, n_read=2):
    """What holds for every dataset: names, groups, shapes, and items that can be sent to another process."""
    groups: dict[str, str] = {}
    for split in dataset.splits:
        items = dataset.items(split, data)
        assert len({item.name for item in items}) == len(items)
        for item in items:
            assert "/" not in item.name
            assert groups.setdefault(item.group, split) == split, f"{item.group} is in two splits"
        for item in pickle.loads(pickle.dumps(items))[:n_read]:  # noqa: S301 (made here)
            image, truths = item.load_image(), item.load_truths()
            assert image.axes == dataset.axes and image.name == item.name
            assert truths.shape[1:] == image.spatial_shape and truths.dtype.kind in "iu"
            assert (len(truths) == 0) == (dataset.task == "none")


def test_every_file_of_the_folder_is_a_dataset_of_its_name():
    assert dataset_names() == NAMES
    for name in NAMES:
        dataset = find_dataset(name)
        assert dataset.name == name and dataset.default_split in dataset.splits
        assert len(dataset.n_images) == len(dataset.splits) and check_axes(dataset.axes)
        assert all((dataset.licence, dataset.citation, dataset.homepage.startswith("https://"), dataset.layout))
        assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in dataset.files)
        assert len({file.path for file in dataset.files}) == len(dataset.files)
        assert pickle.loads(pickle.dumps(dataset)).n_images == dataset.n_images  # noqa: S301 (made here)


def test_an_unknown_dataset_or_split_names_those_there_are():
    with pytest.raises(UsageError, match="bsds500, dsb2018"):
        find_dataset("imagenet")
    with pytest.raises(UsageError, match="train, val"):
        find_dataset("bsds500").items("test", None)


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_of_the_layout_gives_its_items_and_truths(tmp_path, name):
    truths = MAKERS[name](tmp_path)
    dataset = find_dataset(name)
    check_items(dataset, tmp_path)
    items = [item for split in dataset.splits for item in dataset.items(split, tmp_path)]
    assert {item.name for item in items} == set(truths)
    for item in items:
        np.testing.assert_array_equal(item.load_truths(), truths[item.name])


@pytest.mark.parametrize("name", MAKERS)
def test_an_empty_folder_says_how_to_get_the_images(tmp_path, name):
    with pytest.raises(InputError, match=f"selfseg datasets {name} --download.*--data"):
        find_dataset(name).items(find_dataset(name).default_split, tmp_path)


def test_without_a_folder_the_cache_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=str(tmp_path)):
        find_dataset("bsds500").items("val", None)


def test_truth_that_is_missing_or_no_truth_is_named(tmp_path):
    make_bsds500(tmp_path)
    path = tmp_path / "bsds500/groundTruth/val/3096.npz"
    (item,) = find_dataset("bsds500").items("val", tmp_path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"3096\.npz"):
        item.load_truths()
    path.unlink()
    with pytest.raises(InputError, match=r"3096\.npz"):
        item.load_truths()
    np.savez(path, segmentations=np.zeros((0, 8, 9), np.uint8))
    with pytest.raises(InputError, match=r"3096\.npz.*no annotator"):
        item.load_truths()


def test_photographs_are_in_natural_order(tmp_path):
    make_bsds500(tmp_path)
    assert [item.name for item in find_dataset("bsds500").items("train", tmp_path)] == ["2092", "100075"]


def test_tiles_that_fit_at_an_edge_are_one_group_and_strangers_are_val(tmp_path):
    make_dsb2018(tmp_path)
    of = {s: {item.name: item for item in find_dataset("dsb2018").items(s, tmp_path)} for s in ("train", "val")}
    everything = of["train"] | of["val"]
    assert everything["7798ca1ddb31"].group == everything["2255d5aba044"].group
    assert of["val"]["ffffffffffff"].kind == "electron" and everything["00071198d059"].kind == "fluorescence_small"


def test_both_kinds_of_noise_are_in_both_splits(tmp_path):
    make_isbi2012(tmp_path)
    for split in ("train", "val"):
        kinds = {item.kind: int(item.name[-2:]) for item in find_dataset("isbi2012").items(split, tmp_path)}
        assert set(kinds) == {"clean", "noisy"} and kinds["clean"] < 15 <= kinds["noisy"]


def test_a_stack_with_fewer_pages_than_its_name_says_is_named(tmp_path):
    make_isbi2012(tmp_path)
    short = np.zeros((5, 8, 9), np.uint8)
    for kind in ("volume", "labels"):
        tifffile.imwrite(tmp_path / f"isbi2012/train-{kind}_00-19.tif", short, photometric="minisblack")
    item = find_dataset("isbi2012").items("train", tmp_path)[-1]
    for load in (item.load_image, item.load_truths):
        with pytest.raises(InputError, match=r"_00-19\.tif.*page 19"):
            load()


def test_outside_the_brain_nothing_is_valid(tmp_path):
    make_ms_flair(tmp_path)
    image = find_dataset("ms_flair").items("all", tmp_path)[0].load_image()
    np.testing.assert_array_equal(image.valid, image.data > 0)
    assert not image.valid[:, :, 0].any()


def test_the_pictures_of_scikit_image_are_there_and_are_what_its_own_registry_says():
    from skimage.data._registry import registry

    dataset = find_dataset("skimage_photos")
    check_items(dataset, None)
    assert verify(dataset) == [] and count_present(dataset) == len(dataset.items("all")) == 7
    for file in dataset.files:
        assert file.sha256 == registry[f"data/{file.path}"]


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_the_real_data_are_whole_and_of_the_known_number(data_dir, name):
    dataset = find_dataset(name)
    assert verify(dataset, data_dir) == []
    assert tuple(len(dataset.items(split, data_dir)) for split in dataset.splits) == REAL[name] == dataset.n_images
    check_items(dataset, data_dir)


@pytest.mark.data
def test_the_real_data_have_the_facts_of_their_readme(data_dir):
    # The numbers are those of the data's own README and index files, not of this code.
    bsds = [item for s in ("train", "val") for item in find_dataset("bsds500").items(s, data_dir)]
    assert sum(len(item.load_truths()) for item in bsds) == 1633
    nuclei = [item for s in ("train", "val") for item in find_dataset("dsb2018").items(s, data_dir)]
    assert sum(int(item.load_truths().max()) for item in nuclei) == 3254
    assert sorted(item.kind for item in nuclei).count("histology_purple") == 16
    cells = [item.load_truths() for s in ("train", "val") for item in find_dataset("isbi2012").items(s, data_dir)]
    assert np.mean(cells) == pytest.approx(0.77, abs=0.015)
    (patient,) = find_dataset("ms_flair").items("all", data_dir)
    assert patient.load_image().data.shape == (182, 218, 182)
    assert patient.load_truths().sum() / 1000 == pytest.approx(8.2, abs=0.05)  # millilitres


@pytest.mark.data
def test_groups_of_tiles_are_what_their_edges_say(data_dir):
    items = [item for split in ("train", "val") for item in find_dataset("dsb2018").items(split, data_dir)]
    images = {item.name: item.load_image().data.astype(float) for item in items}
    pairs = set()
    for upper in images:
        for lower in images:
            for turn in (False, True):
                one, two = (images[name].swapaxes(0, 1) if turn else images[name] for name in (upper, lower))
                if upper == lower or one.shape[1] != two.shape[1]:
                    continue
                seam = np.abs(one[-1] - two[0]).mean()
                inside = (np.abs(one[-1] - one[-2]).mean() + np.abs(two[0] - two[1]).mean()) / 2
                if seam <= 1.25 * inside and np.corrcoef(one[-1].ravel(), two[0].ravel())[0, 1] > 0.9:
                    pairs.add(frozenset((upper, lower)))
    group = {item.name: item.group for item in items}
    assert pairs == {frozenset((a, b)) for a in group for b in group if a < b and group[a] == group[b]}
    assert len(pairs) == 1
