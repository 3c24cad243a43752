"""The one exception family. Each message says what was wrong, with the value, and what to do next."""

import unicodedata
from collections.abc import Iterable, Sequence

# How much of a long filter is shown around its mistake: indented, and with a mark at both ends, a line of 80 columns.
COLUMNS_BEFORE_CARET, COLUMNS_AFTER_CARET = 44, 32


class ToolkitError(Exception):
    """Base of every error that this library raises on purpose."""


class SettingsError(ToolkitError):
    """A setting, an option or an environment variable cannot be used as it is."""


class DatabaseError(ToolkitError):
    """PostgreSQL could not be started or reached, refused a statement, or lacks pgvector."""


class ClusterError(ToolkitError):
    """A Ray cluster could not be reached, cannot do the work, or did not finish it."""


class ComfyUIError(ToolkitError):
    """A running ComfyUI could not be reached, or did not say what it was asked for."""


class EncoderError(ToolkitError):
    """An encoder's weights are unreadable, of the wrong shape, or gave an unusable vector."""


class UnusableVectors(EncoderError):
    """Of the vectors of a batch, some can be neither stored nor compared. rows: which of them, at least one."""

    def __init__(self, message: str, rows: Sequence[int]) -> None:
        super().__init__(message)
        self.rows = rows


class WeightsMissing(EncoderError):
    """No weights for a space were found in any place that was looked at."""


class TextTowerMissing(EncoderError):
    """A text was to be embedded among pictures by weights that embed pictures only."""


class EncoderMismatch(EncoderError):
    """An encoder's weights are not those that made the vectors a library already holds."""


class PathNotFound(ToolkitError):
    """A folder or file that was named does not exist."""


class ImageError(ToolkitError):
    """A file cannot be read as a picture."""


class ConditioningError(ToolkitError):
    """A conditioning cannot be made of what is stored and connected."""


class FolderNotAllowed(ToolkitError):
    """A node was asked to read or write outside the allowed roots."""


class SearchError(ToolkitError):
    """A search cannot be run as it was asked for."""


class CurationError(ToolkitError):
    """A rating or a tag is none that an image can have."""


class ImportSourceError(ToolkitError):
    """Another program's database cannot be read, or is none of the program that it was said to be of."""


class ImageNotFound(ToolkitError):
    """The library has no image with the id that was asked for."""


class FilterError(SearchError):
    """A filter cannot be read. The message shows the filter with a caret below the character that is at fault.

    text: the filter. position: of that character, counted from 0; len(text) where something is missing at its end.
    mistake: what is wrong there, and what is possible.
    """

    def __init__(self, text: str, position: int, mistake: str) -> None:
        line, column = _shown(text, position)
        super().__init__(
            f"The filter cannot be read at character {position + 1}. {mistake}\n  {line}\n  {' ' * column}^"
        )
        self.text = text
        self.position = position
        self.mistake = mistake


def _shown(text: str, position: int) -> tuple[str, int]:
    """A part of a text on one line of a terminal, and the column of a character in it."""
    shown = [character if character.isprintable() else " " if character.isspace() else "�" for character in text]
    before = _fitting(shown[:position][::-1], COLUMNS_BEFORE_CARET)[::-1]
    rest = _fitting(shown[position:], COLUMNS_AFTER_CARET)
    left_out = "…" if len(before) < position else ""
    line = left_out + "".join(before + rest) + ("…" if position + len(rest) < len(text) else "")
    return line, len(left_out) + sum(map(_columns, before))


def _fitting(characters: Iterable[str], columns: int) -> list[str]:
    """As many of the first characters as there are columns for."""
    fitting: list[str] = []
    for character in characters:
        columns -= _columns(character)
        if columns < 0:
            break
        fitting.append(character)
    return fitting


def _columns(character: str) -> int:
    return 0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1


class ExportError(ToolkitError):
    """Images cannot be exported as it was asked for, or their files could not be written."""
