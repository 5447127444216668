"""An extension of Griffe, which reads docstrings: the examples at their end become code."""

import re
import textwrap
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Indents what follows "Examples:", as Griffe expects of a section's content."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value
            found = re.search(r"^Examples:\n\n", text, re.MULTILINE)
            if found:
                obj.docstring.value = text[: found.start()] + "Examples:\n" + textwrap.indent(text[found.end() :], "    ")
