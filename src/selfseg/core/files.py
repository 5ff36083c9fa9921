"""Files that are whole or absent: written aside in the same folder, flushed to disk, then renamed; and the manifest of a run's files."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from selfseg.core.errors import InputError, OutputError, SelfsegError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WINDOWS = os.name == "nt"

LONGEST_PATH = 260
"""Characters of a path from which Windows refuses it, unless long paths are switched on."""

PATIENCE = 2.0
"""Seconds for which a name is asked for again that another program holds: Windows lets nobody replace an open file."""

ABANDONED = 24 * 3600
"""Seconds after which an unfinished file is a dead process's, where there are no locks that say so."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, of a user's quota that is used up, and of a file above the largest size."""

MARK = ".unfinished-"
"""Part of the name of every file that is being written."""

NAMING = (errno.ENAMETOOLONG, errno.EILSEQ)
"""Error numbers of a name that the file system does not accept: the fault of one input, not of the place."""

LONGEST_NAME = 255
"""Bytes of a file's name, at most, on the file systems in use."""


def _failure(path: Path, error: OSError) -> SelfsegError:
    if error.errno in NAMING:
        return InputError(
            path,
            expected=f"a file name that the disk can hold, often up to {LONGEST_NAME} bytes",
            got=f"{len(os.fsencode(path.name))} bytes ({error.strerror})",
            fix="rename the input",
        )
    if WINDOWS and len(str(path.absolute())) >= LONGEST_PATH:
        return InputError(
            path,
            expected=f"a path of less than {LONGEST_PATH} characters",
            got=f"{len(str(path.absolute()))} ({error.strerror})",
            fix="choose a shorter place with -o, or switch on long paths in Windows",
        )
    fix = (
        "free some space or choose another place with -o" if error.errno in FULL else "choose a writable place with -o"
    )
    reason = error.strerror or str(error)
    return OutputError(path, expected="a file that can be written", got=reason, fix=fix)


@contextlib.contextmanager
def telling_failures(path: Path | str) -> Iterator[None]:
    """Turn the system's error of writing into one line, for files that are written piece by piece.

    Raise `OutputError` if the folder cannot be written, or the disk is full; `InputError` if the disk cannot hold the name.
    """
    try:
        yield
    except OSError as error:
        raise _failure(Path(path), error) from error


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    The temporary name keeps the suffix of `path`, since some writers choose a format by it. Raise `OutputError` if the
    folder cannot be made or written, or the disk is full; `InputError` if the disk cannot hold the name, or the file that is there is
    not one of the run's (`Manifest`).
    """
    path = Path(path)
    temporary, handle = None, -1
    try:
        _guard(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _reserve(path)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _note(path, temporary)
        _rename(temporary, path)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        _release(handle)
        if temporary is not None:
            with contextlib.suppress(OSError):  # what cannot be removed now is cleared away by the next run
                temporary.unlink(missing_ok=True)


def _rename(old: Path, new: Path) -> None:
    """Rename a file or folder over what has the name; wait a little where another program (a viewer, a virus scanner) has that open."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            old.replace(new)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _reserve(path: Path) -> tuple[Path, int]:
    """Make an empty file with a hidden name beside `path`; return it and the handle of its lock."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent)
        handle = _hold(handle)
        if Path(name).exists():  # else it was cleared away before it was locked
            return Path(name), handle
        _release(handle)


def _prefix(path: Path) -> str:
    """Return the beginning of a temporary name, which is never longer than a name may be: names are bytes."""
    room = LONGEST_NAME - len(os.fsencode(f".{MARK}{path.suffix}")) - len("12345678.old")
    return f".{path.stem.encode(errors='ignore')[: max(0, room)].decode(errors='ignore')}{MARK}"


def _hold(handle: int, wait: bool = True) -> int:
    """Lock an open file or folder for as long as this process lives, however it ends; return the handle, to be kept open.

    -1 if it could not be locked, and was closed: another process holds it (if not to `wait`), or there are no such locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        os.close(handle)
        return -1
    return handle


def _release(handle: int) -> None:
    if handle >= 0:
        os.close(handle)


def clear_unfinished(folder: Path | str, below: Sequence[str] = ()) -> None:
    """Remove what killed processes have left of files that they were writing; not what a living one is writing.

    Look in `folder` itself, and through all of the folders `below` in it, but for zarr folders.
    """
    found = list(Path(folder).glob(f".*{MARK}*"))
    for name in below:
        for place, folders, files in os.walk(Path(folder) / name):
            found += [Path(place) / each for each in (*folders, *files) if each.startswith(".") and MARK in each]
            folders[:] = [each for each in folders if not each.endswith(".zarr")]
    for path in found:
        with contextlib.suppress(OSError):
            if fcntl is None:
                if time.time() - path.stat().st_mtime > ABANDONED:
                    remove_folder(path) if path.is_dir() else path.unlink()
                continue
            handle = _hold(os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR), wait=False)
            try:
                if handle >= 0:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                _release(handle)


@contextlib.contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; put it in place of `path` when the block ends well, else remove it.

    Raise the errors of `writing`.
    """
    path = Path(path)
    temporary, handle = None, -1
    try:
        _guard(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent))
        handle = -1 if fcntl is None else _hold(os.open(temporary, os.O_RDONLY))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _note(path, temporary)
        _take_place(temporary, path)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        _release(handle)
        if temporary is not None:
            remove_folder(temporary)


def remove_folder(path: Path) -> None:
    """Remove a folder, although threads of the library that failed may still be writing into it."""
    for _ in range(100):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)


def _take_place(new: Path, path: Path) -> None:
    """Rename a folder to a name that another may have: a folder cannot be renamed over one that is not empty."""
    if not path.is_symlink() and path.is_dir():
        old = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=".old", dir=path.parent))
        old.rmdir()  # Windows renames no folder over another, not even over an empty one
        _rename(path, old)
        _rename(new, path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        _rename(new, path)


def remove(path: Path | str) -> None:
    """Remove a file if it is there. Raise `OutputError` if it is there and cannot be removed."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise _failure(Path(path), error) from error


def keep_file(path: Path | str, copy: Path | str) -> None:
    """Keep a file, which will be replaced, under a second name; without copying its bytes where the disk allows it.

    Raise `OutputError` if the second name cannot be made.
    """
    path, copy = Path(path), Path(copy)
    _note(copy, path)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            copy.hardlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, copy)
    except OSError as error:
        raise _failure(copy, error) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path | str, text: str) -> None:
    """Write text in UTF-8, whole or not at all.

    Bytes of file names that are no UTF-8 are written as ``\\udc80`` to ``\\udcff``, which is what JSON has for them too.
    """
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, value: Any) -> None:
    """Write plain values as indented JSON with a final line break, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


NOTES = ".written.jsonl"
"""File in a folder of results: a line for each file that was written since its manifest."""

HASHED_WHOLE = 64 << 20
"""Bytes of a file up to which all of it is hashed; of a larger one the size and both ends are."""

OWN_KEYS = ("selfseg", "finished", "images")
"""Keys of which selfseg's files in JSON have one."""

MANIFESTS = ("run.json", "training.json", "export.json")
"""Files that list what selfseg wrote into their folder."""

END = 1 << 20
"""Bytes of such an end."""

_ACTIVE: list["Manifest"] = []
"""Those of the folders that are written now."""


class Manifest:
    """The record of the files that selfseg wrote into a folder.

    While it is open, `writing` and `writing_folder` note each file below the folder before it takes its place, and refuse to replace one
    that selfseg did not write, or that was changed since. The notes lie in a hidden file, so that those of a process that is killed
    count too; `settle` puts the list into the folder's own file (``run.json``) at the end.

    Parameters
    ----------
    folder
        The folder.
    file
        Name of the file in it that holds the list, as its ``files``.

    Attributes
    ----------
    files : dict
        Digest of each file of this run, by its name below the folder; None = a folder that is still written.
    unknown : bool
        A version that kept no list wrote into the folder: nothing is refused there, nor removed.
    """

    def __init__(self, folder: Path | str, file: str = "run.json") -> None:
        self.folder, self.file = Path(folder).absolute(), file
        facts, notes = _own_facts(self.folder / file), _read_notes(self.folder)
        listed = (facts or {}).get("files")
        self.files: dict[str, str | None] = dict(listed) if isinstance(listed, dict) else {}
        kept = (facts or {}).get("kept") or {}
        self._before: dict[str, set[str | None]] = {name: set(digests) for name, digests in kept.items()}
        self._begun, self._own = any("begun" in entry for entry in notes), set[str]()
        old = listed is None and not notes and (facts or _own_facts(self.folder / "config.json"))
        self.unknown = bool(old) or any(entry.get("unknown") for entry in notes)
        self._remember()
        for entry in notes:
            if "begun" in entry:
                self.files = {}
            else:
                self.files[entry["file"]] = entry.get("digest")
                self._remember()

    def _remember(self) -> None:
        for name, digest in self.files.items():
            self._before.setdefault(name, set()).add(digest)

    @property
    def stale(self) -> set[str]:
        """Names of the files that earlier runs wrote, and the last one did not."""
        return {*self._before} - {*self.files}

    def knows(self, path: Path) -> bool:
        """Return whether a path is, or lies in, what some run wrote into the folder."""
        name = self._name(path)
        parents = [] if name is None else [name, *(one.as_posix() for one in Path(name).parents)]
        return any(one in self._before for one in parents)

    def begin(self) -> None:
        """Begin a new run: what is there is of earlier ones."""
        known = [{"file": name, "digest": one} for name in self._before for one in self._before[name]]
        self._add(*known, {"begun": True, "unknown": self.unknown})
        self.files, self._begun = {}, True

    def check(self, *names: str) -> None:
        """Raise `InputError` if a file that selfseg did not write has one of these names, or that of the folder's own file."""
        path = self.folder / self.file
        if os.path.lexists(path) and _own_facts(path) is None:
            raise _in_the_way(path, "one that selfseg did not write")
        for name in names:
            self.guard(self.folder / name)

    def __enter__(self) -> "Manifest":
        """Open the record, and return it; or that of the run of which this is a part, if one is open for the folder."""
        self.check()
        for one in _ACTIVE:
            if one.folder == self.folder:
                return one
        _ACTIVE.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in _ACTIVE:
            _ACTIVE.remove(self)

    def _name(self, path: Path) -> str | None:
        """Return the name of a file below the folder; None of the list's own files and of those elsewhere."""
        path = path.absolute()
        name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else None
        return None if name in (self.file, NOTES, None) else name

    def guard(self, path: Path) -> None:
        """Raise `InputError` if a file is there that selfseg did not write, or that was changed since."""
        name = self._name(path)
        if name is None or name in self._own or self.unknown or not os.path.lexists(path):
            return
        if name not in self._before:
            got = "one that selfseg did not write"
        elif None not in self._before[name] and _digest(path) not in self._before[name]:
            got = "one that was changed since selfseg wrote it"
        else:
            return
        raise _in_the_way(path, got)

    def note(self, path: Path, content: Path | None = None) -> None:
        """Note that a file belongs to this run; `content` is where its bytes are now, if not there yet."""
        name = self._name(path)
        if name is None or (self.unknown and not self._begun):
            return
        content = content or path
        grows = content.is_dir() or path.suffix == ".jsonl"  # after it was noted: any content is ours
        digest = None if grows else _digest(content)
        self._own.add(name)
        if self.files.get(name, "") != digest:
            self.files[name] = digest
            self._add({"file": name, "digest": digest})

    def keep(self, files: Mapping[str, str | None]) -> None:
        """Count files of an earlier run, with their digests, as this run's."""
        self._add(*({"file": name, "digest": digest} for name, digest in files.items()))
        self.files.update(files)

    def _add(self, *lines: dict[str, Any]) -> None:
        path = self.folder / NOTES
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                cut = file.read(1) not in (b"", b"\n")  # what a full disk or a kill has left of a line: it ends here
                file.write(b"\n" * cut + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        except OSError as error:
            with contextlib.suppress(OSError):
                if path.stat().st_size == 0:
                    path.unlink()
            raise _failure(path, error) from error

    def sweep(self, within: Sequence[str] | None = None) -> list[str]:
        """Remove the files of earlier runs that this one did not write anew; return those that were changed since, which stay.

        Parameters
        ----------
        within
            First parts of the names to look at; None = all, but a model that lies in the folder.
        """
        changed = []
        for name in sorted(self._before.keys() - (self.files.keys() if within is None else self._own)):
            path, first = self.folder / name, name.partition("/")[0]
            if first == "model" if within is None else not any(f"{name}/".startswith(f"{one}/") for one in within):
                continue
            self.files.pop(name, None)
            if not os.path.lexists(path):
                continue
            if not {None, _digest(path)} & self._before[name]:
                changed.append(name)
                continue
            remove_folder(path) if path.is_dir() and not path.is_symlink() else remove(path)
            with contextlib.suppress(OSError):  # up to the first that holds something else
                for above in path.parents[: name.count("/")]:
                    above.rmdir()
        return changed

    def settle(self, facts: dict[str, Any] | None = None, within: Sequence[str] | None = None) -> list[str]:
        """Remove what earlier runs left, and write the list into the folder's own file; return what was changed by hand, and stays.

        Parameters
        ----------
        facts
            All else in the file; None = what is in it. Without such a file the notes stay.
        within
            As for `sweep`.
        """
        kept = self.sweep(within)
        facts = _own_facts(self.folder / self.file) if facts is None else facts
        if facts is not None and (self._begun or not self.unknown):
            there = {name: self.folder / name for name in sorted(self.files) if (self.folder / name).exists()}
            files = {name: _digest(path) if path.is_dir() else self.files[name] for name, path in there.items()}
            stale = {**(facts.get("kept") or {}), **{name: sorted(map(str, self._before[name])) for name in kept}}
            write_json(self.folder / self.file, {**facts, "files": files, "kept": stale})
            remove(self.folder / NOTES)
        return kept


def _guard(path: Path) -> None:
    """Raise `InputError` if a run that is noted may not write there, `OSError` if the disk cannot hold the name."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)  # a name that is too long is found before the work
    for manifest in _ACTIVE:
        manifest.guard(path)


def _note(path: Path, content: Path) -> None:
    for manifest in _ACTIVE:
        manifest.note(path, content)


def _in_the_way(path: Path, got: str) -> InputError:
    fix = "move it, or choose another place with -o"
    return InputError(path, expected="no file of yours in this place", got=got, fix=fix)


def _read_notes(folder: Path) -> list[dict[str, Any]]:
    entries = []
    try:
        lines = (folder / NOTES).read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError):  # cut short by a kill: its file did not take its place
            entries.append(json.loads(line))
    return entries


def _own_facts(path: Path) -> dict[str, Any] | None:
    """Return the facts in a file of a run; None without one, or if it is not selfseg's."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and not facts.keys().isdisjoint(OWN_KEYS) else None


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file (of a large one, of its size and ends), or of the names and sizes of a folder's files."""
    digest = hashlib.sha256()
    if path.is_dir():
        for place, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                one = Path(place, name)
                digest.update(f"{os.fsencode(one.relative_to(path))!r} {one.stat().st_size}\n".encode())
        return digest.hexdigest()
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= HASHED_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{size}\n".encode() + file.read(END))
        file.seek(-END, os.SEEK_END)
        digest.update(file.read())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _manifests(folder: Path, stamp: tuple[int, ...]) -> tuple[Manifest, ...]:
    present = [one for one in MANIFESTS if (folder / one).is_file()]
    noted = [] if present or not (folder / NOTES).exists() else [MANIFESTS[0]]
    return tuple(Manifest(folder, one) for one in (*present, *noted))


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return values that change with the content of a folder's manifests; empty without one."""
    stamps: list[int] = []
    for name in (*MANIFESTS, NOTES):
        try:
            found = (folder / name).stat()
        except OSError:
            continue
        stamps += (found.st_mtime_ns, found.st_size, found.st_ino)
    return tuple(stamps)


def written_into(path: Path) -> Path | None:
    """Return the folder into which selfseg wrote a file, by its manifest; None of a file that is not selfseg's."""
    path = Path(os.path.normpath(path.absolute()))
    for folder in path.parents:
        if (stamp := _stamp(folder)) and any(one.knows(path) for one in _manifests(folder, stamp)):
            return folder
    return None
