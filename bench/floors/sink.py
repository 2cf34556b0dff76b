"""Keeps one file on a tmpfs, behind a Unix socket: what is left of a sandbox when only its storage counts.

sink.py SOCKET FILE
put LENGTH\\n + content → ok\\n        get\\n → LENGTH\\n + content        a connection each
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

CHUNK = 256 * 1024


def put(connection: socket.socket, head: bytes, rest: bytes, file: Path) -> None:
    left, buffer = int(head.split()[1]), bytearray(CHUNK)
    view = memoryview(buffer)
    with file.open("wb", buffering=0) as target:
        left -= target.write(rest) or 0
        while left > 0 and (count := connection.recv_into(buffer)):
            target.write(view[:count])
            left -= count
    connection.sendall(b"ok\n")


def get(connection: socket.socket, file: Path) -> None:
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with file.open("rb", buffering=0) as source:
        connection.sendall(b"%d\n" % os.fstat(source.fileno()).st_size)
        while count := source.readinto(buffer):
            connection.sendall(view[:count])


def main(path: str, file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(4)
        while True:
            connection, _ = listener.accept()
            with connection:
                begun = b""
                while b"\n" not in begun:
                    begun += connection.recv(CHUNK)
                head, _, rest = begun.partition(b"\n")
                if head.startswith(b"put"):
                    put(connection, head, rest, file)
                else:
                    get(connection, file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
