"""File operations below /mnt/data, done by the agent beside the code that may be changing the same files at the same
moment: see paths.py for how each step is taken.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator

from carrel.guest import linux
from carrel.guest.paths import (
    OPEN,
    Condition,
    FileError,
    Info,
    directory,
    info,
    is_shown,
    make_directory,
    split,
    translated,
    walk,
)
from carrel.guest.uploads import Upload

MAX_LISTED = 100_000  # entries of one listing; above any pool's inode limit that is meant seriously
MAX_DEPTH = 64  # levels that a listing goes down: each holds a descriptor meanwhile


class Tree:
    """The files below `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._is_own: bool | None = None  # a file system that is nobody else's

    def used(self) -> int | None:
        """Bytes of the file system that is the tree's own; None where it shares one with others, or is away."""
        try:
            if self._is_own is None:  # asked for when it is mounted
                self._is_own = os.path.ismount(self._root)
            found = os.statvfs(self._root) if self._is_own else None
        except OSError:
            return None
        return None if found is None else (found.f_blocks - found.f_bfree) * found.f_frsize

    def _open(self, path: str) -> int:
        """A descriptor of the regular file or directory at `path`."""
        names = split(path)
        if not names:
            return walk(self._root, [])
        parent = walk(self._root, names[:-1])
        try:
            fd = os.open(names[-1], OPEN, dir_fd=parent)
        finally:
            os.close(parent)
        return fd

    def stat(self, path: str) -> Info:
        names = split(path)
        try:
            parent = walk(self._root, names[:-1])
            try:
                found = os.stat(names[-1], dir_fd=parent, follow_symlinks=False) if names else os.fstat(parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise translated(error, path) from error
        if not is_shown(found):
            raise FileError("FileNotFound", f"'{path}' is not a regular file.")
        return info(names[-1] if names else "", "/".join(names[:-1]), found)

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
        return fd, info(names[-1], "/".join(names[:-1]), found)

    def open_directory(self, path: str) -> int:
        """A descriptor of the directory at `path`."""
        try:
            return walk(self._root, split(path))
        except NotADirectoryError as error:
            raise FileError("FileConflict", f"'{path}' is not a directory.") from error
        except OSError as error:
            raise translated(error, path) from error

    def list(self, path: str, recursive: bool) -> Iterator[Info]:
        """Regular files and directories; whatever else lies there is left out. Nothing where there is no such directory."""
        budget = [MAX_LISTED]
        try:
            fd = walk(self._root, split(path))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise translated(error, path) from error
        yield from _entries(fd, "/".join(split(path)), recursive, budget, depth=0)

    def make_directory(self, path: str) -> tuple[Info, bool]:
        """The directory at `path` and those on the way to it; and whether it was not there before."""
        names = _named(path)
        try:
            parent = walk(self._root, names[:-1], make=True)
            try:
                is_new = make_directory(names[-1], parent)
                fd = directory(names[-1], parent)
            finally:
                os.close(parent)
            try:
                return info(names[-1], "/".join(names[:-1]), os.fstat(fd)), is_new
            finally:
                os.close(fd)
        except NotADirectoryError as error:
            raise FileError("FileConflict", f"There is something at '{path}', or on the way, that is none.") from error
        except OSError as error:
            raise translated(error, path) from error

    def rename(self, path: str, to: str, *, overwrite: bool, condition: Condition) -> Info:
        """Give a file or directory another place, in one step; directories on the way there are made.

        What lies at `to` is replaced only with `overwrite`, a directory only by one and only while it is empty.
        """
        names, wanted = _named(path), _named(to)
        try:
            source = walk(self._root, names[:-1])
            try:
                condition.check(names[-1], source)
                if not is_shown(os.stat(names[-1], dir_fd=source, follow_symlinks=False)):
                    raise FileError("FileNotFound", f"'{path}' is not a regular file.")
                found = _move(self._root, source, names, wanted, overwrite)
            finally:
                os.close(source)
        except OSError as error:
            raise translated(error, path) from error
        return info(wanted[-1], "/".join(wanted[:-1]), found)

    def delete(self, path: str, condition: Condition) -> None:
        names = split(path)
        if not names:
            raise FileError("FilePathInvalid", "The data directory itself cannot be deleted.")
        try:
            parent = walk(self._root, names[:-1])
            try:
                condition.check(names[-1], parent)
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

    def upload(self, path: str, condition: Condition) -> Upload:
        names = _named(path)
        try:
            # What has to be there already has its directories: a refused upload leaves none behind.
            return Upload(walk(self._root, names[:-1], make=not condition.wants_something), names, condition)
        except FileNotFoundError as error:
            raise condition.refusal if condition.wants_something else translated(error, path) from error
        except NotADirectoryError as error:
            raise FileError("FileConflict", f"What lies on the way to '{path}' is not a directory.") from error
        except OSError as error:
            raise translated(error, path) from error


def _named(path: str) -> list[str]:
    names = split(path)
    if not names:
        raise FileError("FilePathInvalid", "A file name is needed.")
    return names


def _move(root: str, source: int, names: list[str], wanted: list[str], overwrite: bool) -> os.stat_result:
    to = "/".join(wanted)
    if wanted == names:
        return os.stat(names[-1], dir_fd=source, follow_symlinks=False)
    if wanted[: len(names)] == names:
        raise FileError("FileConflict", "A directory cannot be moved into itself.")
    try:
        target = walk(root, wanted[:-1], make=True)
    except NotADirectoryError as error:
        raise FileError("FileConflict", f"What lies on the way to '{to}' is not a directory.") from error
    try:
        if overwrite:
            os.rename(names[-1], wanted[-1], src_dir_fd=source, dst_dir_fd=target)
        else:
            linux.rename_new(names[-1], wanted[-1], source, target)
        return os.stat(wanted[-1], dir_fd=target, follow_symlinks=False)
    except FileExistsError as error:
        reason = "and is not empty" if overwrite else "already; 'overwrite' replaces it"
        raise FileError("FileConflict", f"There is something at '{to}' {reason}.") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileError("FileConflict", f"What lies at '{to}' is of the other kind, file or directory.") from error
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        raise FileError("FileConflict", f"The directory at '{to}' is not empty.") from error
    finally:
        os.close(target)


def _entries(fd: int, folder: str, recursive: bool, budget: list[int], depth: int) -> Iterator[Info]:
    """What lies in the directory behind `fd` (closed at the end), depth first, by name."""
    try:
        for name in sorted(os.listdir(fd)):
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue  # gone, or not to be looked at: the code is free to do that while we list
            if not is_shown(found):
                continue
            budget[0] -= 1
            if budget[0] < 0:
                return
            yield info(name, folder, found)
            if stat.S_ISDIR(found.st_mode) and recursive and depth < MAX_DEPTH:
                try:
                    below = directory(name, fd)
                except OSError:
                    continue
                yield from _entries(below, f"{folder}/{name}".lstrip("/"), recursive, budget, depth + 1)
    except OSError:
        return
    finally:
        os.close(fd)
