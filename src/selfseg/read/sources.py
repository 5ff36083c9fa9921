"""Inputs: files, folders, globs and arrays, found and named but not yet read."""

import errno
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image, spatial_axes
from selfseg.core.machine import LRUCache, free_memory
from selfseg.core.progress import Progress
from selfseg.read.arrays import Decoded, Stamp, guess_axes, make_image, split_address, stamp_of
from selfseg.read.dicom import group_series
from selfseg.read.formats import format_of, known_suffixes, open_lazy, stem_of
from selfseg.read.ome_zarr import is_zarr

Inputs = str | Path | NDArray[Any] | Image | Sequence["str | Path | NDArray[Any] | Image | Source"]

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
    """One input that can be read when its turn comes. What it opens, decodes and hashes is kept, so that it is done once a run."""

    name: str
    """Stem for outputs, unique among the inputs, with ``/`` for sub-folders."""
    path: Path | None = None
    """The file, the folder that is one image, or a place inside a file (``a.h5:/raw``); None for an array."""
    content: NDArray[Any] | Image | None = None
    """The array or image, or None for a file."""
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
            What its axes are, None = as the file says.
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
            return open_lazy(self.path, axes, self.name, max_bytes=max_bytes)
        if isinstance(self.content, Image):
            own = self.content  # goes through the same checks as a file
            spacing = dict(zip(spatial_axes(own.axes), own.spacing, strict=True))
            decoded = Decoded(
                own.data, own.axes, own.guessed_axes, spacing, own.unit, own.channels, own.valid, own.meta, own.notes
            )
            return make_image(decoded, None if self.settled else axes, self.name, own.source)
        array = np.asarray(self.content)
        return make_image(Decoded(array, *guess_axes(array.shape)), axes, self.name, f"array {self.name!r}")

    def tell(self, lines: Sequence[str], progress: Progress) -> None:
        """Say each line about what was opened, unless this source has said it before."""
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                progress.say(f"{self.name}: {line}")

    def is_video(self, axes: str | None = None) -> bool:
        """Return whether it is a file that is read as a video, and not as a volume because the user says that it has Z."""
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
        array = self.content.data if isinstance(self.content, Image) else np.asarray(self.content)
        digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
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


def find_inputs(inputs: Inputs, limit: int | None = None) -> list[Source]:
    """Find everything that `inputs` stands for, in natural order (``img2`` before ``img10``), without reading it.

    Parameters
    ----------
    inputs
        A file, a place inside a file (``a.h5:/raw``), a folder (with its sub-folders), a glob such as
        ``"images/**/*.tif"``, an array, an `Image`, or a list of any of these, or of sources found before. A zarr folder is
        one image, and so are the DICOM files of one series. In folders and globs, hidden files and unknown suffixes are
        passed over, but for DICOM and others that their first bytes tell, and so is
        ``x_scribble.png`` beside an image ``x``. A file that is named twice is taken once.
    limit
        Take only the first `limit` inputs.

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
    """
    if limit is not None and limit < 1:
        raise UsageError("limit", expected="a number of at least 1", got=str(limit), fix="leave it out for all")
    items = [inputs] if isinstance(inputs, str | Path | np.ndarray | Image) else list(inputs)
    arrays, images = sum(isinstance(item, np.ndarray) for item in items), OpenImages()
    found: list[Source] = []
    for item in items:
        if isinstance(item, Source):
            found.append(item)
        elif isinstance(item, Image):
            found.append(Source(_clean(item.name), content=item, images=images))
        elif isinstance(item, np.ndarray):
            name = "image" if arrays == 1 else f"image_{len(found) + 1}"
            found.append(Source(name, content=item, images=images))
        elif isinstance(item, str | Path):
            found.extend(Source(_clean(name), path, images=images) for path, name in list_files(item))
        else:
            raise UsageError(
                "input",
                expected="a path, a folder, a glob, an array or an Image",
                got=type(item).__name__,
                fix="convert it",
            )
    found = _once(found)
    missing = [
        source.path for source in found if source.path is not None and not split_address(source.path)[0].exists()
    ]
    if len(missing) == len(found):
        what = str(missing[0]) if missing else "inputs"
        raise InputError(
            what,
            expected="at least one image",
            got="nothing: there is no such file" if missing else "an empty list",
            fix="check the name and the folder",
        )
    return _unique(found)[:limit]


def is_single(inputs: Any) -> bool:
    """Tell whether inputs, in any form that `find_inputs` takes, are one image and no list of images.

    One image is an array, a file, a place in one, a zarr folder, a folder of one DICOM series.
    """
    if not isinstance(inputs, str | Path):
        return isinstance(inputs, np.ndarray | Image)
    files = list_files(inputs)
    return len(files) == 1 and files[0][0] == Path(inputs).expanduser()


def list_files(where: str | Path, keep_scribbles: bool = False) -> list[tuple[Path, str]]:
    """Return the files that a path, folder or glob stands for, in natural order, each with its name below that folder.

    Raise `InputError` if a folder or glob has no file of a known suffix, or a folder cannot be listed.
    """
    try:
        return _listed(where, keep_scribbles)
    except OSError as error:
        got, fix = error.strerror or str(error), "check the name, and that you may open it"
        what = str(error.filename or where)[:200]
        raise InputError(what, expected="a place that can be looked into", got=got, fix=fix) from error


def _listed(where: str | Path, keep_scribbles: bool) -> list[tuple[Path, str]]:
    path = Path(where).expanduser()
    if "\0" in str(where):
        raise InputError(repr(str(where)), expected="the name of a file", got="a zero character", fix="check the name")
    if path.is_dir() and not is_zarr(path):
        root, files, what = path, walk(path), "folder"
    elif re.search(r"[*?\[]", str(where)) and not path.exists():
        root, files = _glob(path)
        what = "glob"
    else:
        return [(path, stem_of(path))]
    shown = (file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts))
    known = sorted((file for file in shown if _is_image(file)), key=lambda file: natural_order(file, root))
    if not keep_scribbles:
        stems = {file.parent / stem_of(file) for file in known}
        known = [file for file in known if not _is_scribble(file, stems)]
    if not known:
        raise InputError(
            f"{what} {where}",
            expected=f"images ({known_suffixes()})",
            got="none",
            fix="check the place and the suffixes",
        )
    return [(file, _name_below(file, root)) for file in group_series(known)]


def _name_below(path: Path, root: Path) -> str:
    """Return a name below `root` without the suffix; if `root` itself is the image, its own name."""
    file, inside = split_address(path)
    if file == root:
        return stem_of(root.resolve()) + (f"_{inside}" if inside else "")
    return (file.relative_to(root).parent / stem_of(path)).as_posix()


def _is_image(path: Path) -> bool:
    """Tell whether a file, or a folder that is one image, has a known suffix, or none and a known content."""
    return format_of(path) is not None and (path.is_file() or is_zarr(path))


def walk(folder: Path) -> list[Path]:
    """Return the files below a folder; a zarr folder counts as a file, unless it is the folder itself."""

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for at, folders, names in os.walk(folder, onerror=refuse):
        stores = [name for name in folders if is_zarr(Path(at, name))]
        folders[:] = [name for name in folders if name not in stores]
        found += [Path(at, name) for name in (*names, *stores)]
    return found


def _glob(pattern: Path) -> tuple[Path, list[Path]]:
    """Return the fixed part of a glob, and what matches it."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if re.search(r"[*?\[]", part))
    root = Path(*parts[:first])
    try:
        return root, list(root.glob(str(Path(*parts[first:]))))
    except (ValueError, NotImplementedError) as error:
        raise InputError(
            f"glob {pattern}",
            expected="a valid pattern",
            got=str(error),
            fix="use * for any name and ** for any sub-folders",
        ) from error


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
    seen: set[Path] = set()
    kept = []
    for source in sources:
        resolved = None if source.path is None else source.path.resolve()
        if resolved is None or resolved not in seen:
            kept.append(source)
        if resolved is not None:
            seen.add(resolved)
    return kept


def _unique(sources: list[Source]) -> list[Source]:
    """Give equal names their suffix, then their folder, then a number; upper and lower case count as equal."""
    for longer in (_with_suffix, _with_folder):
        clashes = defaultdict(list)
        for i, source in enumerate(sources):
            clashes[source.name.casefold()].append(i)
        for members in clashes.values():
            names = {longer(sources[i]).casefold() for i in members}
            if len(members) > 1 and len(names) == len(members):
                for i in members:
                    sources[i] = replace(sources[i], name=longer(sources[i]))
    taken: set[str] = set()
    for i, source in enumerate(sources):
        name, number = source.name, 2
        while name.casefold() in taken:
            name, number = f"{source.name}_{number}", number + 1
        taken.add(name.casefold())
        sources[i] = source if name == source.name else replace(source, name=name)
    return sources


def _with_suffix(source: Source) -> str:
    return source.name if source.path is None else source.name + source.path.suffix.replace(".", "_")


def _with_folder(source: Source) -> str:
    return source.name if source.path is None else f"{source.path.resolve().parent.name}/{source.name}"
