"""Hooks of the documentation site: pages at the root of the repository, links to them, and equations of docstrings as MathML."""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from mkdocs.structure.files import File, Files

ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "", "EXPERIMENTS.md": "", "CHANGELOG.md": "", "CITATION.cff": ""}
"""Files of the root that belong to the site, and their names there where these differ."""

# A directive, and the lines indented below it.
EQUATION = re.compile(r"^\.\. math::[ ]?(.*(?:\n(?:[ \t]+\S.*|[ \t]*(?=\n[ \t]+\S)))*)", re.MULTILINE)


class Equations(Preprocessor):
    """Turn ``.. math::`` directives into MathML, which browsers draw without a script."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with each directive replaced."""

        def drawn(found: re.Match[str]) -> str:
            return "\n" + self.md.htmlStash.store(convert(" ".join(found[1].split()), display="block")) + "\n"

        return EQUATION.sub(drawn, "\n".join(lines)).split("\n")


class WithEquations(Extension):
    """Markdown extension that draws equations."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's own name)
        """Register the preprocessor."""
        md.preprocessors.register(Equations(md), "equations", 28)


def on_config(config: Any) -> Any:
    """Add the extension for equations."""
    config.markdown_extensions.append(WithEquations())
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root to the site, and the decisions to its navigation."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT.items():
        files.append(File.generated(config, page or name, abs_src_path=str(root / name)))
    decisions = sorted(file.src_uri for file in files if file.src_uri.startswith("decisions/"))
    for section in config.nav:
        for items in section.values():
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and "Decisions" in item:
                    item["Decisions"] = decisions
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links between the root and `docs` lead to the pages of the site."""
    if page.file.src_uri == "index.md" or page.file.src_uri in ROOT:
        first = min(file.src_uri for file in files if file.src_uri.startswith("decisions/"))
        return markdown.replace("](docs/decisions/)", f"]({first})").replace("](docs/", "](")
    for name, target in ROOT.items():
        markdown = re.sub(
            rf"\]\(((?:\.\./)+){re.escape(name)}",
            lambda m, to=target or name: "](" + m[1].removesuffix("../") + to,
            markdown,
        )
    return markdown
