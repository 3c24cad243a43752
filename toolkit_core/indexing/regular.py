"""Reading files that may turn out to be none: a pipe or a device of a picture's name, or a file that never ends."""

from __future__ import annotations

import errno
import os
import stat

NO_FILE = "it is no file, but a folder, a pipe, a socket or a device"

_FLAGS = os.O_RDONLY
# Those that the system has. Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
for _name in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"):
    _FLAGS |= getattr(os, _name, 0)


def is_regular(status: os.stat_result) -> bool:
    """Whether it is of a file, and not of a folder, a pipe, a socket or a device."""
    return stat.S_ISREG(status.st_mode)


def read_regular(path: str, at_most: int) -> bytes:
    """All bytes of a file.

    Raises OSError, also for what is no regular file, which is not opened, and for a file of more than `at_most` bytes:
    of one that grows, or has more than it says, one more than these is read.
    """
    _check(os.stat(path))  # noqa: PTH116 - opening a device may set something off
    descriptor = os.open(path, _FLAGS)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a path, it would open another file
        status = os.fstat(descriptor)
        _check(status)
        data = file.read(min(status.st_size, at_most) + 1)
        while len(data) <= at_most and (more := file.read(min(len(data), at_most + 1 - len(data)))):
            data += more
    if len(data) > at_most:
        raise OSError(errno.EFBIG, f"more than {at_most} bytes are not read")
    return data


def _check(status: os.stat_result) -> None:
    if not is_regular(status):
        raise OSError(errno.EINVAL, NO_FILE)
