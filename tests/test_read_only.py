"""Kernels where neither the installation nor the home folder can be written, on a full disk, and with a damaged cache."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import blobs

CODE = """
import os, sys, tempfile, warnings
import numba.core.caching as caching
def closed(cls, function, file):
    return None
if "closed" in sys.argv:  # as where neither can be written
    caching.InTreeCacheLocator.from_function = classmethod(closed)
    caching.UserWideCacheLocator.from_function = classmethod(closed)
if "full" in sys.argv:
    def save(self, *args):
        raise OSError(28, "No space left on device")
    caching.IndexDataCacheFile._open_for_write = save
from selfseg.core.machine import compiled
@compiled()
def double(x):
    return 2 * x
print(double(3), os.environ.get("NUMBA_CACHE_DIR"))
"""


def run(tmp_path, *words, **env):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(CODE))
    known = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"TMPDIR": str(tmp_path), **env}
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, env=known, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def test_kernels_are_kept_in_a_temporary_folder_of_the_user_where_no_other_is_open(tmp_path):
    (six, folder), said = run(tmp_path, "closed")
    assert six == "6" and Path(folder).parent == tmp_path
    assert said.count("compiled kernels are kept in") == 1 and "NUMBA_CACHE_DIR" in said
    assert list(Path(folder).rglob("*.nbc")) and Path(folder).stat().st_mode & 0o077 == 0
    for file in Path(folder).rglob("*.nb?"):
        file.write_bytes(b"cut")
    assert run(tmp_path, "closed")[0] == [six, folder]  # what cannot be read is compiled anew
    Path(folder).chmod(0o777)
    other = run(tmp_path, "closed")[0][1]
    assert other != folder  # a folder that others may write into is not trusted: a cache is code


def test_a_full_disk_keeps_no_kernel_from_running(tmp_path):
    cache = tmp_path / "cache"
    (six, _), said = run(tmp_path, "full", NUMBA_CACHE_DIR=str(cache))
    assert six == "6" and not list(cache.rglob("*.nbc")) and not said


def test_kernels_run_from_memory_where_there_is_no_folder_at_all(tmp_path, monkeypatch):
    from selfseg.core import machine

    numba = pytest.importorskip("numba")
    from numba.core.caching import FunctionCache

    def nowhere(self, function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", nowhere)
    monkeypatch.setattr(machine, "_own_temporary_folder", lambda: str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")

    @machine.compiled()
    def double(x):
        return 2 * x

    assert double(3) == 6 and double.stats.cache_path is None


def test_the_doctor_says_where_kernels_are_kept(tmp_path, monkeypatch):
    from selfseg.apps.cli import doctor
    from selfseg.regions.slic import slic  # noqa: F401 (kernels to look at)

    good, line = doctor._kernels()
    assert good and "are kept in" in line
    monkeypatch.setattr(doctor, "_can_write", lambda folder: False)
    good, line = doctor._kernels()
    assert not good and "NUMBA_CACHE_DIR" in line


def test_two_processes_that_store_two_signatures_at_once_never_get_the_code_of_the_other(tmp_path, monkeypatch):
    """As it went wrong: both read an empty index, and both called their files number 1."""
    import numba

    from selfseg.core.machine import compiled

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def files():
        return compiled()(blobs)._cache._cache_file

    one, other = files(), files()
    write = one._save_data

    def interrupted(name, data):
        other.save("int64", "code for int64")
        write(name, data)

    monkeypatch.setattr(one, "_save_data", interrupted)
    monkeypatch.setattr(other, "_load_index", dict)  # read before the first has written it
    one.save("float64", "code for float64")
    found = files()
    assert found.load("float64") == "code for float64"
    assert found.load("int64") in ("code for int64", None)
    other.save("int64", "code for int64")
    assert found.load("int64") == "code for int64" and found.load("float64") in ("code for float64", None)
    changed = files()
    changed._source_stamp = ("another", "state of the source")
    changed._save_index({})
    changed.save("float64", "new code")
    assert changed.load("float64") == "new code" and files().load("float64") is None
