"""A plain template: imports the image's list, freezes the heap, forks and waits at the word of whoever started it. Nothing is isolated.

    template.py MODULE…          a line of JSON each way on stdin and stdout, beginning with {"ready": 1}
    {"fork": n}  → {"ms": […]}   n times: fork, exit at once, wait
    {"hold": n}  → {"held": n}   n children that do nothing, until {"release": 1} → {"held": 0}

Run with the image's Python; standard library and the image's modules only.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import warnings


def fork_and_wait() -> float:
    """Milliseconds from before the fork until the child has been waited for."""
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return (time.perf_counter() - begin) * 1000


def hold(count: int) -> None:
    """Fork children that do nothing, let them be looked at, and end them: all read a pipe whose other end dies with this process."""
    read_end, write_end = os.pipe()
    pids = [fork_reader(read_end, write_end) for _ in range(count)]
    say({"held": count})
    sys.stdin.readline()
    os.close(write_end)
    os.close(read_end)
    for pid in pids:
        os.waitpid(pid, 0)


def fork_reader(read_end: int, write_end: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write_end)
            os.read(read_end, 1)
        finally:
            os._exit(0)
    return pid


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def main(modules: list[str]) -> None:
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    say({"ready": 1})
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "fork" in request:
            say({"ms": [fork_and_wait() for _ in range(request["fork"])]})
        elif "hold" in request:
            hold(request["hold"])
            say({"held": 0})


if __name__ == "__main__":
    main(sys.argv[1:])
