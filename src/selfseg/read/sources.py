"""Inputs: files, folders, globs and arrays, found and named but not yet read."""

import errno
import hashlib
import os
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import written_into
from selfseg.core.image import Image, spatial_axes
from selfseg.core.machine import LRUCache, free_memory
from selfseg.core.progress import Progress
from selfseg.read.arrays import Decoded, Stamp, decode_array, is_array, make_image, split_address, stamp_of
from selfseg.read.formats import format_of, known_suffixes, open_lazy, stem_of, suffix_of
from selfseg.read.ome_zarr import field_name, is_image, is_zarr
from selfseg.read.search import PassedOver, search, search_glob, what_made
from selfseg.read.sets import KINDS, images_of, parts_of

Inputs = Any
"""A path, an array, an `Image`, a picture of Pillow, a tensor, a `Source`, or a list of these: see `find_inputs`."""

SCRIBBLE_ENDING = "_scribble"
"""A file of this ending beside an image of the same stem is an annotation for it, and no input of its own."""


MOST_OPEN = 64
"""Files that stay open at a time."""

SHARE = 8
"""One part in this many of the free memory is for decoded images that are kept."""


class OpenImages:
    """The images of a run that are open: kept as long as their files stay as they are and their memory allows.

    Images in memory may take an eighth of the memory that is free at first; the last one is always kept, until another is opened.
    """

    def __init__(self) -> None:
        self._in_files: LRUCache[tuple[Stamp | None, Image]] = LRUCache(MOST_OPEN)

    @cached_property
    def _in_memory(self) -> LRUCache[tuple[Stamp | None, Image]]:
        return LRUCache(free_memory() // SHARE)

    def get(self, key: Hashable, path: Path | None) -> Image | None:
        """Return the image of a key, unless its file was changed or closed since."""
        stamp, image = self._in_memory.get(key) or self._in_files.get(key) or (None, None)
        return image if image is not None and not image.closed and stamp == _stamp(path) else None

    def get_or_make(self, key: Hashable, path: Path | None, make: Callable[[], Image]) -> Image:
        """Return the image of a key, made now if it is not kept; one that is larger than the share by itself goes before that."""
        image = self.get(key, path)
        if image is None:
            self._in_memory.trim()
            stamp, image = _stamp(path), make()
            kept, size = (self._in_memory, image.data.nbytes) if image.in_memory else (self._in_files, 1)
            kept.put(key, (stamp, image), size)
        return image


def _stamp(path: Path | None) -> Stamp | None:
    return None if path is None else stamp_of(path)


@dataclass(frozen=True, eq=False)
class Source:
    """One input that can be read when its turn comes. What it opens, decodes and hashes is kept, so that it is done once a run.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import find_inputs
    >>> source = find_inputs(np.zeros((4, 5), np.uint8))[0]
    >>> source.name, source.read().axes
    ('image', 'YX')
    """

    name: str
    """Stem for outputs, unique among the inputs, with ``/`` for sub-folders."""
    path: Path | None = None
    """The file, the folder that is one image, or a place inside a file (``a.h5:/raw``); None for an array."""
    content: Any = None
    """The image, or the array or what has one (`read.arrays.is_array`); None for a file."""
    settled: bool = False
    """The content is an image whose axes are known for sure: those that the user gives were applied when it was
    made."""
    images: OpenImages | None = field(default=None, repr=False)
    """Those of the run that are open, which the sources of one `find_inputs` share; None = nothing that is opened is
    kept."""
    _own: object = field(default_factory=object, init=False, repr=False)
    _digests: dict[Hashable, str] = field(default_factory=dict, init=False, repr=False)
    _told: set[str] = field(default_factory=set, init=False, repr=False)

    def open(self, axes: str | None = None, max_bytes: int | None = None) -> Image:
        """Return the image: in its file where the format can be read in parts (`open_lazy`), else decoded.

        The source keeps it, and closes it when nobody uses it any more. It is opened again only if the caller closes it, its file
        changes, many other files are opened, or, decoded, it is used again after other images that take an eighth of the free
        memory.

        Parameters
        ----------
        axes
            What its axes are, None = as in the file.
        max_bytes
            Pixel bytes allowed where it is decoded; None = three quarters of the memory that is free.

        Raises
        ------
        InputError, UsageError
            As for `open_lazy`.
        """
        return self._once((axes,), lambda: self._opened(axes, max_bytes))

    def read(self, axes: str | None = None, max_bytes: int | None = None) -> Image:
        """Return the image in memory, decoded once as long as memory allows: see `open` for the arguments and the errors."""
        loaded = None if self.images is None else self.images.get((self._own, axes, "read"), self.path)
        image = loaded or self.open(axes, max_bytes)
        return image if image.in_memory else self._once((axes, "read"), lambda: image.load(max_bytes))

    def _once(self, key: tuple[str | None, ...], make: Callable[[], Image]) -> Image:
        return make() if self.images is None else self.images.get_or_make((self._own, *key), self.path, make)

    def _opened(self, axes: str | None, max_bytes: int | None) -> Image:
        if self.path is not None:
            _check_link(self.path)
            return open_lazy(self.path, axes, self.name, max_bytes=max_bytes)
        if isinstance(self.content, Image):
            own = self.content  # goes through the same checks as a file
            spacing = dict(zip(spatial_axes(own.axes), own.spacing, strict=True))
            decoded = Decoded(
                own.data, own.axes, own.guessed_axes, spacing, own.unit, own.channels, own.valid, own.meta, own.notes
            )
            return make_image(decoded, None if self.settled else axes, self.name, own.source)
        source = f"array {self.name!r}"
        return make_image(decode_item(self.content, source, axes), axes, self.name, source)

    def tell(self, lines: Sequence[str], progress: Progress) -> None:
        """Say each line about what was opened, unless this source has said it before."""
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                progress.say(f"{self.name}: {line}")

    def is_video(self, axes: str | None = None) -> bool:
        """Return whether it is a file that is read as a video, and not as a volume because the user gave it an axis Z."""
        deep = axes is not None and "Z" in axes.upper()
        return self.path is not None and format_of(self.path) == "video" and not deep

    def mask_fingerprint(self) -> str | None:
        """Return the SHA-256 of the user's mask; None without one."""
        return None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file's bytes, or of the array's type, shape and bytes, in hexadecimal digits; computed once."""
        stamp = _stamp(self.path)
        if stamp not in self._digests:
            self._digests[stamp] = self._fingerprint()
        return self._digests[stamp]

    def _fingerprint(self) -> str:
        if self.path is not None:
            try:
                return _digest(self.path)
            except OSError as error:
                raise InputError(
                    self.path,
                    expected="a file that can be opened",
                    got=error.strerror or str(error),
                    fix="check that it is there and that you may read it",
                ) from error
        own = self.content
        image = own if isinstance(own, Image) else decode_item(own, f"array {self.name!r}", "." * np.ndim(own))
        digest = hashlib.sha256(f"{image.data.dtype.str} {image.data.shape}".encode())
        digest.update(np.ascontiguousarray(image.data).data)
        if image is not own and image.valid is not None:
            digest.update(np.packbits(image.valid).tobytes())
        return digest.hexdigest()


def fingerprint_of(image: Image) -> str:
    """Return the SHA-256 of an image's file, or of its pixels if it is in memory; computed once while the image is open."""
    if "sha256" not in image.memo:
        content = Source(image.name, content=image) if image.in_memory else Source(image.name, Path(image.source))
        image.memo["sha256"] = content.fingerprint()
    return str(image.memo["sha256"])


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and digests; of a place inside, with its name."""
    file, inside = split_address(path)
    if not inside and not file.is_dir():
        if not file.is_file():  # opening a pipe would wait for ever
            raise FileNotFoundError(errno.ENOENT, "no ordinary file")
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    digest = hashlib.sha256(inside.encode())
    parts = sorted(walk(file)) if file.is_dir() else [file]
    for part in parts:
        digest.update(f"{part.relative_to(file.parent).as_posix()} {_digest(part)}\n".encode())
    return digest.hexdigest()


def as_items(inputs: Any) -> list[Any]:
    """Return inputs as a list: one of them alone, or those of a list, a tuple, an iterator, an array of objects.

    Raise `UsageError` if they are none of these.
    """
    if isinstance(inputs, np.ndarray) and inputs.ndim == 1 and inputs.dtype.kind in "OUS":
        return list(inputs)
    if isinstance(inputs, str | bytes | os.PathLike | Image | Source) or is_array(inputs):
        return [inputs]
    if isinstance(inputs, Iterable) and not isinstance(inputs, Mapping):
        return list(inputs)
    raise _no_input(inputs)


def as_path(item: Any) -> Path:
    """Return a path that is given as a string, as bytes or as another kind of path. Raise `UsageError` for anything else."""
    if not isinstance(item, str | bytes | os.PathLike):
        raise _no_input(item)
    return Path(os.fsdecode(item))


def _no_input(item: Any) -> UsageError:
    numbers = isinstance(item, Sequence) and len(item) > 0 and isinstance(item[0], int | float | Sequence)
    return UsageError(
        "input",
        expected="a path, a folder, a glob, an array, an Image, a picture of Pillow, or a list of these",
        got="a list of numbers" if numbers else type(item).__name__,
        fix="make an array of it with numpy.asarray" if numbers else "convert it",
    )


def decode_item(item: Any, source: str, axes: str | None = None, as_labels: bool = False) -> Decoded:
    """Return the pixels of an array or of a picture of Pillow, as `decode_array` and `read.image.decode_picture` do."""
    if isinstance(item, getattr(sys.modules.get("PIL.Image"), "Image", ())):
        decoded: Decoded = import_module("selfseg.read.image").decode_picture(item, source, as_labels)
        return decoded
    return decode_array(item, source, axes)


def _name_of_array(item: Any) -> str:
    """Return the name of the file of a picture that Pillow has opened; empty if it has none."""
    name = getattr(item, "filename", None) if hasattr(item, "getbands") else None
    return stem_of(Path(os.fsdecode(name))) if isinstance(name, str | bytes) and name else ""


def find_inputs(inputs: Inputs, limit: int | None = None, say: Callable[[str], None] | None = None) -> list[Source]:
    """Find everything that `inputs` stands for, in natural order (``img2`` before ``img10``), without reading it.

    Parameters
    ----------
    inputs
        A file, a place inside a file (``a.h5:/raw``), a folder (with its sub-folders and linked folders), a glob such as
        ``"images/**/*.tif"``, an array or what has one (a tensor, a picture of Pillow, a masked array), an `Image`, or a list of any of
        these, or of sources found before. A zarr folder is one image, and so are the DICOM files of one series. In folders and globs,
        hidden files and unknown suffixes are passed over, but for files without a suffix that their first bytes tell, and so is
        ``x_scribble.png`` beside an image ``x``. What selfseg wrote is no input. A file that is named twice is taken once; several
        links to one file are several inputs.
    limit
        Take only the first `limit` inputs.
    say
        Called with a line for each folder or glob of which something was passed over.

    Returns
    -------
    list of Source
        With unique names: a file's path below the folder, or below the fixed part of the glob, without its suffix.
        Equal names get their suffix (``"a_png"``), else the name of their folder, else a number.

    Raises
    ------
    InputError
        If a folder or a glob has no image, or no file of all the named ones is there. One missing file among others is
        kept, and fails when it is read, so that the others are done.
    UsageError
        If `limit` is below 1, or an input is of another type.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import find_inputs
    >>> [source.name for source in find_inputs([np.zeros((4, 5), np.uint8), np.ones((4, 5), np.uint8)])]
    ['image_1', 'image_2']
    """
    if limit is not None and limit < 1:
        raise UsageError("limit", expected="a number of at least 1", got=str(limit), fix="leave it out for all")
    items, images, passed = as_items(inputs), OpenImages(), PassedOver()
    arrays = sum(is_array(item) for item in items)
    found: list[Source] = []
    named: list[Path] = []
    for item in items:
        if isinstance(item, Source):
            found.append(item)
        elif isinstance(item, Image):
            found.append(Source(_clean(item.name), content=item, images=images))
        elif is_array(item):
            name = _name_of_array(item) or ("image" if arrays == 1 else f"image_{len(found) + 1}")
            found.append(Source(_clean(name), content=item, images=images))
        else:
            files = list_files(as_path(item), say=say, own=passed if len(items) > 1 else None)
            named += [path for path, _ in files if path == Path(as_path(item)).expanduser()]
            found.extend(Source(_clean(name), path, images=images) for path, name in files)
    found = _joined(found, named, passed)
    given, found = len(found), _once(found)
    if given > len(found):
        passed.add("named twice", number=given - len(found))
    if passed.counts and say is not None:
        say(f"inputs: passed over {passed}")
    _check_any(found, passed)
    return _unique(found)[:limit]


def _joined(found: list[Source], named: Sequence[Path], passed: PassedOver) -> list[Source]:
    """Return the sources with one in place of files that were named one by one, by a shell for example, and are one image together."""
    taken = images_of(named, passed, named=True) if len(named) > 1 else {}
    joined: dict[Path | Source, Source] = {}
    for source in found:
        for path in [None] if source.path is None else taken.get(source.path, [source.path]):
            if path is None or path == source.path:
                joined[source] = source
            else:
                joined.setdefault(path, replace(source, name=field_name(path) or stem_of(path), path=path))
    return list(joined.values())


def _check_any(found: Sequence[Source], passed: PassedOver) -> None:
    """Raise `InputError` if there is no input, or no file of all the named ones is there."""
    missing = [one.path for one in found if one.path is not None and not split_address(one.path)[0].exists()]
    if len(missing) < len(found):
        return
    if missing:
        _check_link(missing[0])
    nothing = f"none, but {passed}" if passed.counts else "an empty list"
    raise InputError(
        str(missing[0]) if missing else "inputs",
        expected="at least one image",
        got="nothing: there is no such file" if missing else nothing,
        fix="check the name and the folder",
    )


def _check_link(path: Path) -> None:
    """Raise `InputError` if a path is a link to something that is not there."""
    if path.is_symlink() and not path.exists():
        got = f"a symbolic link to {path.readlink()}, which is not there"
        raise InputError(path, expected="an image file", got=got, fix="restore the file, or remove the link")


def is_single(inputs: Any) -> bool:
    """Tell whether inputs, in any form that `find_inputs` takes, are one image and no list of images.

    One image is an array, a file, a place in one, a zarr folder, a folder of one DICOM series.
    """
    if not isinstance(inputs, str | bytes | os.PathLike):
        return as_items(inputs) == [inputs] if isinstance(inputs, Image | Source) else _is_one_array(inputs)
    path = as_path(inputs)
    files = list_files(path)
    return len(files) == 1 and files[0][0] == path.expanduser()


def _is_one_array(inputs: Any) -> bool:
    return is_array(inputs) and not (isinstance(inputs, np.ndarray) and inputs.ndim == 1 and inputs.dtype.kind in "OUS")


def list_files(
    where: str | Path, as_inputs: bool = True, say: Callable[[str], None] | None = None, own: PassedOver | None = None
) -> list[tuple[Path, str]]:
    """Return the files that a path, folder or glob stands for, in natural order, each with its name below that folder.

    Parameters
    ----------
    where
        The place.
    as_inputs
        Leave out scribbles beside their image, and all that selfseg wrote.
    say
        Called with a line on what was passed over.
    own
        Counts a single file, or a folder, that selfseg wrote and that is passed over as there are others; None = it is refused.

    Raises
    ------
    InputError
        If a folder or glob has no file of a known suffix, or a folder cannot be listed.
    """
    try:
        return _listed(where, as_inputs, say, own)
    except OSError as error:
        got, fix = error.strerror or str(error), "check the name, and that you may open it"
        what = str(error.filename or where)[:200]
        raise InputError(what, expected="a place that can be looked into", got=got, fix=fix) from error


def _listed(
    where: str | Path, as_inputs: bool, say: Callable[[str], None] | None, own: PassedOver | None
) -> list[tuple[Path, str]]:
    path, passed = _checked(where), PassedOver()
    made = _made_by_selfseg(path) if as_inputs else None
    if made is not None and own is None:
        raise InputError(
            path, expected="images", got=f"{made} of selfseg", fix="give your own images, or copy this elsewhere"
        )
    if made is not None and own is not None:
        own.add(f"{made} of selfseg", str(path))
        return []
    if path.is_dir() and not is_zarr(path):
        root, files, what = path, search(path, passed, as_inputs), "folder"
    elif re.search(r"[*?\[]", str(where)) and not path.exists():
        (root, files), what = search_glob(path, passed, as_inputs), "glob"
    else:
        parts = (parts_of(path) or [path] * path.is_dir()) if path.is_dir() or suffix_of(path) in KINDS else []
        return [(image, field_name(image) or stem_of(image)) for image in parts] or [(path, stem_of(path))]
    known = sorted((file for file in files if _is_image(file, passed)), key=lambda file: natural_order(file, root))
    if as_inputs:
        known = _without_scribbles(known, passed)
    if not known and own is not None and {*passed.counts} == {"that selfseg wrote"}:
        own.add("folders of selfseg", str(path))
        return []
    if not known:
        raise InputError(
            f"{what} {where}",
            expected=f"images ({known_suffixes()})",
            got=f"none, but {passed}" if passed.counts else "none",
            fix="check the place and the suffixes",
        )
    images = dict.fromkeys(image for taken in images_of(known, passed).values() for image in taken)
    if passed.counts and say is not None:
        say(f"{where}: passed over {passed}")
    return [(image, _name_below(image, root)) for image in images]


def _checked(where: str | Path) -> Path:
    """Return a path, with the home folder in place of ``~``; `InputError` if it cannot be one."""
    text = str(where)
    try:
        bad = "a zero character" if b"\0" in os.fsencode(text) else ""
    except UnicodeEncodeError:
        bad = "characters that no file name has"
    if bad:
        raise InputError(repr(text), expected="the name of a file", got=bad, fix="check the name")
    return Path(where).expanduser()


def _made_by_selfseg(path: Path) -> str | None:
    """Return what a single input is if selfseg made it: a file of an earlier run, a folder that is its own as a whole."""
    if path.is_dir() and not is_zarr(path):
        return what_made(path)
    return None if written_into(path) is None else "a file"


def _without_scribbles(files: list[Path], passed: PassedOver) -> list[Path]:
    stems = {file.parent / stem_of(file) for file in files}
    kept = [file for file in files if not _is_scribble(file, stems)]
    if len(kept) < len(files):
        passed.add("scribbles", number=len(files) - len(kept))
    return kept


def _name_below(path: Path, root: Path) -> str:
    """Return a name below `root` without the suffix; if `root` itself is the image, its own name."""
    file, inside = split_address(path)
    if file.is_dir() and (field := field_name(file, root)) is not None:
        return field
    if file == root:
        return stem_of(root.resolve()) + (f"_{inside}" if inside else "")
    return (file.relative_to(root).parent / stem_of(path)).as_posix()


def _is_image(path: Path, passed: PassedOver) -> bool:
    """Tell whether a file, or a folder that is one image, has a known suffix, or none and a known content; what has not is counted.

    So has a dead link.
    """
    dead = path.is_symlink() and not path.exists()
    if (format_of(path) is not None and (path.is_file() or is_zarr(path) or dead)) or is_image(path):
        return True
    if dead:
        passed.add("dead links", path.name)
    elif path.is_dir():
        passed.add("folders")
    elif path.is_file():
        passed.add("of unknown suffix", path.suffix.lower() or "without")
    else:
        passed.add("that are no ordinary files", path.name)
    return False


def walk(folder: Path) -> list[Path]:
    """Return the files of which a folder is made; a zarr folder counts as a file, unless it is the folder itself."""

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for at, folders, names in os.walk(folder, onerror=refuse):
        stores = [name for name in folders if is_zarr(Path(at, name))]
        folders[:] = [name for name in folders if name not in stores]
        found += [Path(at, name) for name in (*names, *stores)]
    return found


def natural_order(file: Path, root: Path) -> tuple[Any, ...]:
    """Return a key that sorts files below a folder in natural order: ``img2`` before ``img10``."""
    pieces = (re.split(r"(\d+)", part.casefold()) for part in file.relative_to(root).parts)
    return (*([int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in pieces), [file.name])


def _is_scribble(file: Path, stems: set[Path]) -> bool:
    stem = stem_of(file)
    return stem.endswith(SCRIBBLE_ENDING) and file.parent / stem.removesuffix(SCRIBBLE_ENDING) in stems


def _clean(name: str) -> str:
    """Return a name that cannot lead out of the output folder."""
    return "/".join(part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")) or "image"


def _once(sources: list[Source]) -> list[Source]:
    """Return the sources without files that are named twice; a link and its file are two names."""
    seen: set[str] = set()
    kept = []
    for source in sources:
        place = None if source.path is None else os.path.normpath(source.path.absolute())
        if place is None or place not in seen:
            kept.append(source)
        if place is not None:
            seen.add(place)
    return kept


def _unique(sources: list[Source]) -> list[Source]:
    """Give equal names their suffix, then their folder, then a number; what `blind` makes equal is equal."""
    for longer in (_with_suffix, _with_folder):
        clashes = defaultdict(list)
        for i, source in enumerate(sources):
            clashes[blind(source.name)].append(i)
        for members in clashes.values():
            names = {blind(longer(sources[i])) for i in members}
            if len(members) > 1 and len(names) == len(members):
                for i in members:
                    sources[i] = replace(sources[i], name=longer(sources[i]))
    taken: set[str] = set()
    for i, source in enumerate(sources):
        name, number = source.name, 2
        while blind(name) in taken:
            name, number = f"{source.name}_{number}", number + 1
        taken.add(blind(name))
        sources[i] = source if name == source.name else replace(source, name=name)
    return sources


def blind(name: str) -> str:
    """Return a name as disks see it that know neither case nor forms of accents: ``é`` is one letter, or an e and an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _with_suffix(source: Source) -> str:
    return source.name if source.path is None else source.name + source.path.suffix.replace(".", "_")


def _with_folder(source: Source) -> str:
    return source.name if source.path is None else f"{source.path.resolve().parent.name}/{source.name}"
