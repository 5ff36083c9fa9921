import subprocess
import sys
from pathlib import Path

import selfseg


def test_no_room_is_named_like_a_public_function():
    """Importing a room ``selfseg.predict`` would put the module in the place of the function."""
    rooms = {path.stem for path in Path(selfseg.__file__).parent.iterdir()}
    assert {"core", "learning", "segmenting"} <= rooms
    assert not rooms & set(selfseg.__all__)


def test_nothing_heavy_is_imported_by_the_package_alone():
    code = "import selfseg, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules); assert 'predict' in dir(selfseg)"
    subprocess.run([sys.executable, "-c", code], check=True)
