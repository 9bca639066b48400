"""Text for calibration and evaluation, with the hash that ties a result to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_EVALUATION_SHARE = 0.75


@dataclass(frozen=True)
class Text:
    """A text, split once into an evaluation part (the start) and a calibration part (the rest), which do not overlap.

    Parameters
    ----------
    text : str
        The text.
    source : str
        Where it comes from, for messages and results.

    Examples
    --------
    >>> text = Text("one\\ntwo\\nthree\\nfour\\n")
    >>> text.evaluation.text, text.calibration.text
    ('one\\ntwo\\nthree\\n', 'four\\n')
    """

    text: str
    source: str = "given text"

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"{self.source}: the text is empty")

    @property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, 64 hexadecimal digits; record it with every result."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    @property
    def evaluation(self) -> Text:
        """The first three quarters of the characters, up to the end of a line."""
        return Text(self.text[: self._split()], f"{self.source}, evaluation part")

    @property
    def calibration(self) -> Text:
        """What follows the evaluation part."""
        return Text(self.text[self._split() :], f"{self.source}, calibration part")

    def _split(self) -> int:
        """Return the index of the first character of the calibration part; a text of one line is cut within it."""
        nominal = int(len(self.text) * _EVALUATION_SHARE)
        line_end = self.text.rfind("\n", 0, nominal)
        return line_end + 1 if line_end >= 0 else nominal


def default_text() -> Text:
    """Return the help topics that come with CPython: `pydoc_data.topics`, sorted by topic, joined by newlines.

    About 465,000 characters of English in Python 3.11. It changes with the Python version, hence `Text.sha256`.
    """
    from pydoc_data.topics import topics

    return Text("\n".join(topics[name] for name in sorted(topics)), "pydoc_data.topics")


def from_file(path: str | Path) -> Text:
    """Read a text from a UTF-8 file.

    Raises
    ------
    ValueError
        The file is missing, unreadable, not UTF-8, or empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text file {path} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from error
    except OSError as error:
        raise ValueError(f"text file {path} cannot be read: {error.strerror}") from error
    return Text(text, f"text file {path}")
