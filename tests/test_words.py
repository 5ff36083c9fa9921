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
CODE = re.compile(r"```.*?```|`[^`\n]*`|^(?: {4}|\t)[^\n]*$", re.DOTALL | re.MULTILINE)
FILES = sorted(
    [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "src").glob("**/static/js/**/*.js"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
)


def texts(path):
    """Return the words of a file that people read, each with its line: docstrings, comments and messages, or a page."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [(0, CODE.sub("", content))]
    if path.suffix == ".js":
        return list(enumerate(content.splitlines(), 1))
    words = [(0, "")]
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)):
            words.append((token.start[0], token.string))
    return words


def summaries(path):
    """Return the first lines of the docstrings of a file, those under fields too, each with its line."""
    if path.suffix == ".js":
        starts = (re.match(r"\s*// (.*)", line) for line in path.read_text(encoding="utf-8").splitlines())
        return [(number, found[1]) for number, found in enumerate(starts, 1) if found]
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
    assert not (found := riddles(path)), "\n".join(found)


def test_the_check_finds_what_it_looks_for(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Run it:\n\n    selfseg says --nothing\n\nThe loop goes on.\n", encoding="utf-8")
    assert riddles(page) == ["0: goes on"]
    path = tmp_path / "module.py"
    path.write_text('"""Whether it rains."""\n\n# the loop knows no method\nx = "so many images"\n', encoding="utf-8")
    assert riddles(path) == ["3: knows", "4: so many", "1: Whether it rains."]
