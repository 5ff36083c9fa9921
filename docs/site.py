"""Hooks of the documentation site: pages at the root of the repository, notebooks as pages, and equations as MathML."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor
from mkdocs.structure.files import File, Files

ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "", "EXPERIMENTS.md": "", "CHANGELOG.md": "", "CITATION.cff": ""}
"""Files of the root that belong to the site, and their names there where these differ."""

# A directive, and the lines indented below it.
EQUATION = re.compile(r"^\.\. math::[ ]?(.*(?:\n(?:[ \t]+\S.*|[ \t]*(?=\n[ \t]+\S)))*)", re.MULTILINE)
DISPLAYED = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)
ROLE, INLINE = r":math:`([^`]+)`", r"(?<![\w$])\$(?![\s$])([^$\n]*[^$\s])\$(?![\w$])"


class Equations(Preprocessor):
    """Turn ``.. math::`` directives, and ``$$`` blocks, into MathML, which browsers draw without a script."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with each directive replaced."""

        def drawn(found: re.Match[str]) -> str:
            return "\n" + self.md.htmlStash.store(convert(" ".join(found[1].split()), display="block")) + "\n"

        return DISPLAYED.sub(drawn, EQUATION.sub(drawn, "\n".join(lines))).split("\n")


class EquationInLine(InlineProcessor):
    """Turn an equation within a line into MathML."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802 (Markdown's own name)
        """Return the drawn equation and its place in the text."""
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


class WithEquations(Extension):
    """Markdown extension that draws equations."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's own name)
        """Register the preprocessor."""
        md.preprocessors.register(Equations(md), "equations", 28)
        md.inlinePatterns.register(EquationInLine(ROLE, md), "equation_role", 195)  # before code in backticks
        md.inlinePatterns.register(EquationInLine(INLINE, md), "equation_in_line", 185)  # after it


def on_config(config: Any) -> Any:
    """Add the extension for equations."""
    config.markdown_extensions.append(WithEquations())
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root to the site, and the decisions to its navigation."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT.items():
        files.append(File.generated(config, page or name, abs_src_path=str(root / name)))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page, pictures = notebook_page(json.loads(notebook.content_string), Path(notebook.src_uri).stem)
        files.append(File.generated(config, notebook.src_uri.replace(".ipynb", ".md"), content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    decisions = sorted(file.src_uri for file in files if file.src_uri.startswith("decisions/"))
    for section in config.nav:
        for items in section.values():
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and "Decisions" in item:
                    item["Decisions"] = decisions
    return files


def notebook_page(notebook: Any, stem: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by the names under which the page shows them."""
    blocks, pictures = [], {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(re.sub(r"\((\w+)\.ipynb\)", r"(\1.md)", text))
            continue
        blocks.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            if "text" in output:
                blocks.append("```text\n" + "".join(output["text"]).strip("\n") + "\n```")
            elif "image/jpeg" in output.get("data", {}):
                name = f"{stem}{len(pictures)}.jpg"
                pictures[name] = base64.b64decode("".join(output["data"]["image/jpeg"]))
                blocks.append(f"![]({name})")
    title, *rest = blocks
    link = f"[Download the notebook]({stem}.ipynb). It needs `pip install 'selfseg[tutorials]'`."
    return "\n\n".join([title, link, *rest]) + "\n", pictures


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links between the root and `docs`, and to notebooks, lead to the pages of the site."""
    if not page.file.src_uri.startswith("tutorials/"):  # there the notebook itself can be downloaded
        markdown = re.sub(r"(\]\([\w./]*tutorials/\w+)\.ipynb\)", r"\1.md)", markdown)
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
