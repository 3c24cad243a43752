"""Where an export goes: allowed places, and files that appear only when they are whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import ExportError, FolderNotAllowed
from ..named_paths import named_path

PART = ".part"
FULL = frozenset(code for name in ("ENOSPC", "EDQUOT") if (code := getattr(errno, name, None)) is not None)


def allowed_target(target: Path | str, roots: Sequence[Path] | None, settings_file: Path) -> Path:
    """The real path of a target. Raises PathNotFound, and FolderNotAllowed where it is not below one of the roots.

    roots: None allows everything. settings_file: named in the error as the place for another root.
    """
    real = Path(os.path.realpath(named_path(target)))
    if roots is not None and not any(Path(os.path.realpath(root)) in real.parents for root in roots):
        raise FolderNotAllowed(
            f"The export's target {os.fspath(target)!r} does not lie below a folder that may be written to: "
            f"{', '.join(map(str, roots)) or 'there is none'}. To allow it, add the line roots = ['{real.parent}'] to "
            f"{settings_file} and restart ComfyUI."
        )
    return real


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Wraps what the file system says about a target. Raises ExportError."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno in FULL:
            raise ExportError(
                f"The disk of {str(target)!r} is full ({said}). Make room or name a target on another disk, and run "
                "again; nothing of this export is left."
            ) from error
        raise ExportError(
            f"{str(target)!r} could not be written: {said}. See that its folder may be written to and that its disk "
            "takes files of this size, or name another target."
        ) from error


class PartFile:
    """A file that is written as NAME.part and takes its name when it is whole. Replaces a part that a kill left.

    The part is removed at the end of `stack`, where it was not published.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.part.unlink(missing_ok=True)
        self.file = self.part.open("xb")
        stack.callback(self._discard)

    def finish(self) -> int:
        """See that all bytes are on the disk. Returns how many."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return self.part.stat().st_size

    def publish(self) -> None:
        self.part.replace(self.path)

    def withdraw(self) -> None:
        """Remove what an earlier export left at the path."""
        self.path.unlink(missing_ok=True)

    def _discard(self) -> None:
        with suppress(OSError):  # A full disk does not take what is buffered, either.
            self.file.close()
        with suppress(OSError):
            self.part.unlink(missing_ok=True)
