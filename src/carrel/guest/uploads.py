"""A file on its way in."""

from __future__ import annotations

import contextlib
import errno
import os

from carrel.guest.paths import Condition, Info, info, translated


class Upload:
    """It has no name until `commit`, so that a broken upload leaves nothing.

    Where the file system knows no nameless files (gVisor's: EOPNOTSUPP), it has a temporary one, seen in listings meanwhile.
    """

    def __init__(self, directory: int, names: list[str], condition: Condition) -> None:
        """Owns `directory` from here on, also where this raises."""
        self._names, self._condition = names, condition
        self._directory = directory
        self._temporary = f".carrel-{os.urandom(8).hex()}"
        try:
            condition.check(names[-1], directory)  # and again at the end: here so that nobody sends in vain
            self._fd, self._is_named = self._make()
        except BaseException:
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
            self._condition.check(name, self._directory)
            os.rename(self._temporary, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            self._is_named = False
            return info(name, "/".join(self._names[:-1]), os.fstat(self._fd))
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
