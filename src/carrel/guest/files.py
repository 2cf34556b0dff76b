"""File operations below /mnt/data, done by the agent beside the code that may be changing the same files at the same
moment.

The code owns the tree and may plant anything: symlinks, FIFOs, device nodes, directories that move. So every step
opens one name below a descriptor that is already held, never follows a symlink, never blocks on an open, and believes
only what fstat says of what it got.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Any

Info = dict[str, Any]

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_LISTED = 100_000  # entries of one listing; above any pool's inode limit that is meant seriously


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


class Tree:
    """The files below `root`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def _open_directory(self, names: list[str], *, make: bool = False) -> int:
        fd = os.open(self._root, _FILE)
        for name in names:
            try:
                if make:
                    _make_directory(name, fd)
                below = _directory(name, fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _open(self, path: str) -> int:
        """A descriptor of the regular file or directory at `path`."""
        names = split(path)
        if not names:
            return self._open_directory([])
        parent = self._open_directory(names[:-1])
        try:
            fd = os.open(names[-1], _FILE, dir_fd=parent)
        finally:
            os.close(parent)
        return fd

    def stat(self, path: str) -> Info:
        names = split(path)
        try:
            parent = self._open_directory(names[:-1])
            try:
                found = os.stat(names[-1], dir_fd=parent, follow_symlinks=False) if names else os.fstat(parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise translated(error, path) from error
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise FileError("FileNotFound", f"'{path}' is not a regular file.")
        return _info(names[-1] if names else "", "/".join(names[:-1]), found)

    def open_for_reading(self, path: str) -> tuple[int, Info]:
        """A descriptor of the regular file at `path`, and what fstat says of it."""
        names = split(path)
        try:
            fd = self._open(path)
        except OSError as error:
            raise translated(error, path) from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise FileError("FileConflict", f"'{path}' is not a regular file.")
        return fd, _info(names[-1], "/".join(names[:-1]), found)

    def list(self, path: str, recursive: bool) -> Iterator[Info]:
        """Regular files and directories; whatever else lies there is left out. Nothing where there is no such directory."""
        budget = [_MAX_LISTED]
        try:
            fd = self._open_directory(split(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise translated(error, path) from error
        yield from _entries(fd, "/".join(split(path)), recursive, budget, depth=0)

    def delete(self, path: str) -> None:
        names = split(path)
        if not names:
            raise FileError("FilePathInvalid", "The data directory itself cannot be deleted.")
        try:
            parent = self._open_directory(names[:-1])
            try:
                found = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    shutil.rmtree(names[-1], dir_fd=parent)
                else:
                    os.unlink(names[-1], dir_fd=parent)
            finally:
                os.close(parent)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileError("DeleteFileError", f"There is no file '{path}' to delete.") from error
        except OSError as error:
            raise translated(error, path) from error

    def upload(self, path: str) -> Upload:
        names = split(path)
        if not names:
            raise FileError("FilePathInvalid", "A file name is needed.")
        try:
            return Upload(self._open_directory(names[:-1], make=True), names)
        except NotADirectoryError as error:
            raise FileError("FileConflict", f"What lies on the way to '{path}' is not a directory.") from error
        except OSError as error:
            raise translated(error, path) from error


class Upload:
    """A file on its way in: it has no name until `commit`, so that a broken upload leaves nothing.

    Where the file system knows no nameless files (gVisor's: EOPNOTSUPP), it has a temporary one, seen in listings meanwhile.
    """

    def __init__(self, directory: int, names: list[str]) -> None:
        self._names = names
        self._directory = directory
        self._temporary = f".carrel-{os.urandom(8).hex()}"
        try:
            self._fd, self._is_named = self._make()
        except OSError:
            os.close(directory)
            raise

    def _make(self) -> tuple[int, bool]:
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            return os.open(".", os.O_TMPFILE | flags, 0o644, dir_fd=self._directory), False
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        return os.open(self._temporary, os.O_CREAT | os.O_EXCL | flags, 0o644, dir_fd=self._directory), True

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise translated(error, "/".join(self._names)) from error

    def commit(self) -> Info:
        """Give the file its name, in place of what had it. A directory in its way is a FileConflict."""
        name = self._names[-1]
        try:
            # link(2) cannot replace, rename(2) can: so a name for an instant, then the final one in one step.
            if not self._is_named:
                os.link(f"/proc/self/fd/{self._fd}", self._temporary, dst_dir_fd=self._directory, follow_symlinks=True)
                self._is_named = True
            os.rename(self._temporary, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            self._is_named = False
            return _info(name, "/".join(self._names[:-1]), os.fstat(self._fd))
        except OSError as error:
            raise translated(error, "/".join(self._names)) from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go; without a `commit` before, the bytes are gone. Safe to call again."""
        if self._fd >= 0:
            if self._is_named:
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary, dir_fd=self._directory)
            os.close(self._fd)
            os.close(self._directory)
            self._fd = -1


def _directory(name: str, parent: int) -> int:
    """A descriptor of the directory `name`.

    Without O_DIRECTORY, beside which gVisor's kernel forgets O_NOFOLLOW (its build of December 2022).
    """
    try:
        fd = os.open(name, _FILE, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from error
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return fd


def _make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return


def _entries(fd: int, directory: str, recursive: bool, budget: list[int], depth: int) -> Iterator[Info]:
    """What lies in the directory behind `fd` (closed at the end), depth first, by name."""
    try:
        for name in sorted(os.listdir(fd)):
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue  # gone, or not to be looked at: the code is free to do that while we list
            is_directory = stat.S_ISDIR(found.st_mode)
            if not (is_directory or stat.S_ISREG(found.st_mode)):
                continue
            budget[0] -= 1
            if budget[0] < 0:
                return
            yield _info(name, directory, found)
            if is_directory and recursive and depth < 64:
                try:
                    below = _directory(name, fd)
                except OSError:
                    continue
                yield from _entries(below, f"{directory}/{name}".lstrip("/"), recursive, budget, depth + 1)
    except OSError:
        return
    finally:
        os.close(fd)


def _info(name: str, directory: str, found: os.stat_result) -> Info:
    # A name that is not UTF-8 cannot be asked for over HTTP; it is shown with replacement characters.
    return {
        "name": os.fsencode(name).decode("utf-8", "replace"),
        "directory": os.fsencode(directory).decode("utf-8", "replace"),
        "is_directory": stat.S_ISDIR(found.st_mode),
        "size": found.st_size,
        "modified_at": found.st_mtime,
    }
