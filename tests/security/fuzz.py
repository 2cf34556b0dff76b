"""Random system calls, run inside a sandbox by test_fuzzer.py: SECONDS and SEED are set before this text.

A child makes the calls, so that the one that ends or breaks it ends no more; the parent, the interpreter itself, makes the next child and
sweeps up after the last one. Not called are those that send signals, which would end the parent every few milliseconds and have tests of
their own. It prints, and its value is, what was done: calls, children, how many numbers ever succeeded.
"""

import contextlib
import ctypes
import mmap
import os
import random
import resource
import signal
import struct
import time

SECONDS: float = globals().get("SECONDS", 5.0)
SEED: int = globals().get("SEED", 1)

CHILD_CALLS = 3000
NUMBERS = 480
SIGNALLING = {62, 129, 200, 234, 297, 424} if os.uname().machine == "x86_64" else {129, 130, 131, 138, 240, 424}
X32 = 0x40000000

tally = mmap.mmap(-1, 4096)  # shared with the children: calls made, then a byte per number that has succeeded
scratch = mmap.mmap(-1, 1 << 16)
base = ctypes.addressof(ctypes.c_char.from_buffer(scratch))
libc = ctypes.CDLL(None, use_errno=True)


def argument(chance: random.Random) -> int:
    kinds = (
        lambda: chance.choice((0, 1, 2, 3, 7, 8, 16, 255, 256, 4096, 65535, 65536)),
        lambda: -chance.choice((1, 2, 100, 4095, 4096, 1 << 31, 1 << 62)),
        lambda: chance.randrange(0, 64),
        lambda: base + chance.randrange(0, 1 << 16),
        lambda: base + (1 << 16) - chance.randrange(0, 16),
        lambda: 1 << chance.randrange(0, 63),
        lambda: chance.getrandbits(63),
        lambda: os.getpid(),
    )
    return chance.choice(kinds)()


def child(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, 1024)
    resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
    for _ in range(CHILD_CALLS):
        signal.setitimer(signal.ITIMER_REAL, 0.2)  # what waits for ever ends this child
        scratch[: 1 << 10] = chance.randbytes(1 << 10)
        number = chance.randrange(NUMBERS)
        if number in SIGNALLING:
            continue
        called = number | X32 if chance.random() < 0.002 else number
        tally[:8] = struct.pack("Q", struct.unpack("Q", tally[:8])[0] + 1)
        done = libc.syscall(ctypes.c_long(called), *(ctypes.c_long(argument(chance)) for _ in range(6)))
        if done != -1:
            tally[8 + number] = 1


def fuzz() -> list[int]:
    deadline, children = time.monotonic() + SECONDS, 0
    while time.monotonic() < deadline:
        children += 1
        with contextlib.suppress(OSError):  # no process to be had: the sweep makes room
            if (pid := os.fork()) == 0:
                with contextlib.suppress(BaseException):
                    child(SEED * 100_000 + children)
                os._exit(0)
            ends = time.monotonic() + 3
            while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < ends:
                time.sleep(0.002)
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)  # all but oneself and the agent: what the child has left
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return [struct.unpack("Q", tally[:8])[0], children, sum(tally[8 : 8 + NUMBERS])]


fuzz()
