"""Runs the code of a Markdown page as its reader would: block after block, in one namespace.

- A ```` ```python ```` block is executed. What it prints must be shown in a ```` ```text ```` block
  that follows it with nothing but blank lines in between (`...` stands for anything).
- A ```` ```pycon ```` block is a doctest.
- Other blocks are prose.

`python tests/_markdown.py PAGE...` rewrites what pages show to what is printed now.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_FENCED = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```[ \t]*$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page that its text starts on."""

    language: str
    text: str
    line: int
    output: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of `page`; a `text` block becomes the output of the block above it."""
    source = page.read_text(encoding="utf-8")
    matches = list(_FENCED.finditer(source))
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        output = ""
        if (
            following is not None
            and following["language"] == "text"
            and not source[match.end() : following.start()].strip()
        ):
            output = following["text"]
        line = source.count("\n", 0, match.start("text")) + 1
        yield Block(match["language"], match["text"], line, output)


def _printed_by(block: Block, page: Path, namespace: dict[str, object]) -> str:
    # Line numbers and file name are the page's own, so that errors that quote the user's line work.
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def _as_shown(block: Block, printed: str) -> bool:
    checker = doctest.OutputChecker()
    return checker.check_output(block.output.rstrip(), printed.rstrip(), doctest.ELLIPSIS)


def _run_statements(block: Block, page: Path, namespace: dict[str, object]) -> None:
    printed = _printed_by(block, page, namespace)
    if not _as_shown(block, printed):
        raise AssertionError(
            f"{page.name}:{block.line} prints\n{printed}\nbut the page shows\n{block.output}"
        )


def _run_session(block: Block, page: Path, namespace: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(
        block.text, namespace, page.name, str(page), block.line - 1
    )
    test.globs = namespace
    report = io.StringIO()
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(
        test, out=report.write, clear_globs=False
    )
    if results.failed:
        raise AssertionError(report.getvalue())


_RUNNERS = {"python": _run_statements, "pycon": _run_session}


def run_page(page: Path) -> int:
    """Runs the code of `page` and returns how many blocks it had."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    runnable = [block for block in blocks(page) if block.language in _RUNNERS]
    for block in runnable:
        _RUNNERS[block.language](block, page, namespace)
    return len(runnable)


def update_page(page: Path) -> None:
    """Puts what the blocks of `page` print now where the page shows something else."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    source = page.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.language == "python":
            printed = _printed_by(block, page, namespace)
            if block.output and not _as_shown(block, printed):
                kept = f"{block.text}```\n\n```text\n"
                source = source.replace(kept + block.output, f"{kept}{printed.rstrip()}\n")
    page.write_text(source, encoding="utf-8")


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            update_page(page)
