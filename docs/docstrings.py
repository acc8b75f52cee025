"""Prepares docstrings for the reference pages: what is plain text in Python becomes Markdown.

Doctests and `::` literal blocks become fenced code, and Sphinx's roles (:func:`name`) plain code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|exc|data):`~?([^`]+)`")
_DOUBLE_BACKTICKS = re.compile(r"``([^`]+)``")
# A paragraph that starts with a prompt, up to the next blank line.
_DOCTEST = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?! *$).*)*", re.M)
# `Text::`, a blank line, and the lines indented more deeply.
_LITERAL = re.compile(
    r"^(?P<indent> *)(?P<text>\S.*)::\n\n"
    r"(?P<code>(?:(?P=indent) {4}.*(?:\n|\Z)|\n(?=(?P=indent) {4}))+)",
    re.M,
)


def _fence(indent: str, language: str, code: str) -> str:
    lines = [line.removeprefix(indent) for line in code.strip("\n").splitlines()]
    return "\n".join(indent + line for line in [f"```{language}", *lines, "```"])


def _literal(match: re.Match[str]) -> str:
    indent = match["indent"]
    code = "\n".join(line.removeprefix(indent + "    ") for line in match["code"].splitlines())
    body = "\n".join((indent + line).rstrip() for line in code.strip("\n").splitlines())
    return f"{indent}{match['text']}:\n\n{_fence(indent, 'python', body)}\n"


def to_markdown(docstring: str) -> str:
    """The docstring with its code fenced and its roles written as plain code."""
    text = _DOUBLE_BACKTICKS.sub(r"`\1`", _ROLE.sub(r"`\1`", docstring))
    text = _LITERAL.sub(_literal, text)
    return _DOCTEST.sub(lambda match: _fence(match["indent"], "pycon", match[0]), text)


class Markdown(griffe.Extension):
    """Rewrites every docstring once, when the source is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
