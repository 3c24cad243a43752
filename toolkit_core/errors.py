"""The one exception family. Each message says what was wrong, with the value, and what to do next."""


class ToolkitError(Exception):
    """Base of every error that this library raises on purpose."""


class SettingsError(ToolkitError):
    """A setting, an option or an environment variable cannot be used as it is."""


class DatabaseError(ToolkitError):
    """PostgreSQL could not be started or reached, refused a statement, or lacks pgvector."""


class ComfyUIError(ToolkitError):
    """A running ComfyUI could not be reached, or did not say what it was asked for."""


class EncoderError(ToolkitError):
    """An encoder's weights are unreadable, of the wrong shape, or gave an unusable vector."""


class WeightsMissing(EncoderError):
    """No weights for a space were found in any place that was looked at."""


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


class ImageNotFound(ToolkitError):
    """The library has no image with the id that was asked for."""


class ExportError(ToolkitError):
    """Images cannot be exported as it was asked for, or their files could not be written."""
