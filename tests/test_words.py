"""Words that a reader must decode are refused in docstrings, comments, messages and pages (STYLE: plain English)."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RIDDLES = re.compile(r"\b(told|says|speaks|goes on|knows|so many|of one's own|there is none)\b", re.IGNORECASE)
SUMMARY = re.compile(r"(What|Who|Whether)\b")
CODE = re.compile(r"```.*?```|`[^`\n]*`|^(?: {4}|\t).*$", re.DOTALL | re.MULTILINE)
FILES = sorted(
    [*(ROOT / "src").rglob("*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
)

NOT_YET = frozenset(
    [
        "src/selfseg/kernels/_line_sums.py",
        "src/selfseg/methods/_contour_learning.py",
        "src/selfseg/methods/objects.py",
        "src/selfseg/nets/autoencoder.py",
        "src/selfseg/nets/backbones.py",
        "src/selfseg/nets/feature_space.py",
        "src/selfseg/read/_bmp.py",
        "src/selfseg/read/_containers.py",
        "src/selfseg/read/_lazy_array.py",
        "src/selfseg/read/_lzw.py",
        "src/selfseg/read/_no_data.py",
        "src/selfseg/read/_ome_tiff.py",
        "src/selfseg/read/_tiff_metadata.py",
        "src/selfseg/read/_tiff_pages.py",
        "src/selfseg/read/_tiff_values.py",
        "src/selfseg/read/animation.py",
        "src/selfseg/read/arrays.py",
        "src/selfseg/read/datasets/_base.py",
        "src/selfseg/read/datasets/dsb2018.py",
        "src/selfseg/read/datasets/isbi2012.py",
        "src/selfseg/read/dicom.py",
        "src/selfseg/read/formats.py",
        "src/selfseg/read/gate.py",
        "src/selfseg/read/hdf5.py",
        "src/selfseg/read/image.py",
        "src/selfseg/read/nifti.py",
        "src/selfseg/read/ome_zarr.py",
        "src/selfseg/read/search.py",
        "src/selfseg/read/sources.py",
        "src/selfseg/read/tiff.py",
        "src/selfseg/read/vendor.py",
        "src/selfseg/read/video.py",
        "src/selfseg/regions/contours.py",
        "src/selfseg/regions/membranes.py",
        "src/selfseg/regions/merge_tree.py",
        "src/selfseg/regions/spectral.py",
        "src/selfseg/regions/teacher.py",
        "src/selfseg/regions/texture.py",
        "src/selfseg/regions/watershed.py",
        "src/selfseg/train/__init__.py",
        "src/selfseg/train/distributed.py",
        "src/selfseg/train/loop.py",
        "src/selfseg/train/recording.py",
    ]
)
"""Files that still have such words. A file that has none any more must leave the list: it only shrinks."""


def texts(path):
    """Return the words of a file that people read, each with its line: docstrings, comments and messages, or a page."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [(0, CODE.sub("", content))]
    words = [(0, "")]
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)):
            words.append((token.start[0], token.string))
    return words


def summaries(path):
    """Return the first lines of the docstrings of a file, those under fields too, each with its line."""
    if path.suffix != ".py":
        return []
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", None)
        for part in body if isinstance(body, list) else ():
            if (
                isinstance(part, ast.Expr)
                and isinstance(part.value, ast.Constant)
                and isinstance(part.value.value, str)
            ):
                found.append((part.lineno, part.value.value.strip()))
    return found


def riddles(path):
    """Return ``line: words`` for each place in a file that must be rewritten."""
    found = [f"{line}: {match[0]}" for line, text in texts(path) for match in RIDDLES.finditer(text)]
    return found + [f"{line}: {text[:60]}" for line, text in summaries(path) if SUMMARY.match(text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_are_plain(path):
    found, listed = riddles(path), path.relative_to(ROOT).as_posix() in NOT_YET
    assert listed or not found, "\n".join(found)
    assert not listed or found, f"{path.relative_to(ROOT)} is clean: take it off NOT_YET"


def test_the_list_names_files():
    assert not [name for name in NOT_YET if not (ROOT / name).is_file()]


def test_the_check_finds_what_it_looks_for(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""Whether it rains."""\n\n# the loop knows no method\nx = "so many images"\n', encoding="utf-8")
    assert riddles(path) == ["3: knows", "4: so many", "1: Whether it rains."]
