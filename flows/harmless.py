"""Text from data, made so that neither a terminal nor the reader of a log obeys it.

File names, columns and values come from whoever delivers the logs. An escape sequence among them could clear
a screen, retitle a window or paste; a line break could forge a line of the log; a mark of writing direction
shows ``gpj.exe`` as ``exe.jpg`` (Trojan Source, Boucher and Anderson 2021).
"""

from __future__ import annotations

import json
import re

#: Control characters of ASCII and Latin-1 but for tab and line feed; what has no width (but for the joiners
#: within words and emoji), marks of direction, line separators, half characters.
_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_IN_LINES = re.compile(f"[{_OBEYED}]")
_IN_A_LINE = re.compile(f"[\n{_OBEYED}]")


def harmless(text: str, *, lines: bool = False) -> str:
    r"""The text with what a terminal obeys written out, as ``\x1b``.

    Args:
        text: whatever it is.
        lines: keep line breaks, for a traceback; else they are written out too.

    >>> harmless("part\x1b[2J.parquet")
    'part\\x1b[2J.parquet'
    """
    return (_IN_LINES if lines else _IN_A_LINE).sub(lambda found: _escaped(found[0]), text)


def json_line(value: object) -> str:
    """One line of JSON that a terminal may show too; what JSON does not know becomes its text."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return _IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
