"""Names below a data directory, taken one by one: the steps that every file call is made of, and what is told of what lies there.

The code owns the tree and may plant anything: symlinks, FIFOs, device nodes, directories that move. So every step opens one name below
a descriptor that is already held, never follows a symlink, never blocks on an open, and believes only what fstat says of what it got.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any

Info = dict[str, Any]

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileError(Exception):
    """An operation that cannot be done; `code` is an error code of the wire."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def translated(error: OSError, path: str) -> FileError:
    """The kernel's word for `path` as ours."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return FileError("FileNotFound", f"There is no file '{path}'.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FileError(
            "SessionStorageExceeded", "The session's storage is full: delete files, or ask for a larger disk limit."
        )
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
        return FileError("FilePathInvalid", f"File path '{path}' is not one this file system takes.")
    return FileError("FileConflict", f"'{path}' cannot be used this way: {os.strerror(error.errno or 0)}.")


def split(path: str) -> list[str]:
    """The names of a relative path; the caller's edge has refused escapes already, this is the second lock on the door."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names or any("\0" in name for name in names):
        raise FileError("FilePathInvalid", f"File path '{path}' is not below the data directory.")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise FileError("FilePathInvalid", "The file path is not Unicode text.") from None
    return names


def directory(name: str, parent: int) -> int:
    """A descriptor of the directory `name`.

    Without O_DIRECTORY, beside which gVisor's kernel forgets O_NOFOLLOW (its build of December 2022).
    """
    try:
        fd = os.open(name, OPEN, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from error
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return fd


def make_directory(name: str, parent: int) -> bool:
    """Whether it was not there before."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def walk(root: str, names: list[str], *, make: bool = False) -> int:
    """A descriptor of the directory `names` below `root`."""
    fd = os.open(root, OPEN)
    for name in names:
        try:
            if make:
                make_directory(name, fd)
            below = directory(name, fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def info(name: str, folder: str, found: os.stat_result) -> Info:
    # A name that is not UTF-8 cannot be asked for over HTTP; it is shown with replacement characters.
    return {
        "name": os.fsencode(name).decode("utf-8", "replace"),
        "directory": os.fsencode(folder).decode("utf-8", "replace"),
        "is_directory": stat.S_ISDIR(found.st_mode),
        "size": found.st_size,
        "modified_at": found.st_mtime,
        "etag": etag(found),
    }


def is_shown(found: os.stat_result) -> bool:
    """Files and directories are; whatever else code may have made is left out."""
    return stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)


def etag(found: os.stat_result) -> str:
    """Another one after every upload, and after every change by code that a tick of the kernel's clock (4 ms or less) lies between.

    The change time is in it because code can set the other one back (utimensat(2)), but not this.
    """
    return f"{found.st_ino:x}-{found.st_mtime_ns & (2**64 - 1):x}-{found.st_ctime_ns & (2**64 - 1):x}-{found.st_size:x}"


class Condition:
    """What a caller demands of what is at a path: If-Match and If-None-Match, as lists of tags, or ["*"] for anything."""

    def __init__(self, wanted: list[str] | None = None, refused: list[str] | None = None) -> None:
        self._wanted, self._refused = wanted, refused

    @property
    def wants_something(self) -> bool:
        """Whether there has to be something at the path."""
        return self._wanted is not None

    @property
    def refusal(self) -> FileError:
        return FileError("ConditionNotMet", "The file is not the one that If-Match names.")

    def check(self, name: str, parent: int) -> None:
        """Raises FileError where what `name` is now is not what was demanded."""
        if self._wanted is None and self._refused is None:
            return
        found: os.stat_result | None = None
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        shown = found is not None and is_shown(found)
        tag = etag(found) if found is not None else ""
        if self._wanted is not None and not (shown and _names(self._wanted, tag)):
            raise self.refusal
        if self._refused is not None and found is not None and _names(self._refused, tag):
            raise FileError("ConditionNotMet", "There is a file that If-None-Match excludes.")


def _names(tags: list[str], tag: str) -> bool:
    return "*" in tags or tag in tags
