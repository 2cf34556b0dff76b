"""What a gVisor sandbox is made of, as data: the namespace level's page (`policy.py`) in the words of `runsc`.

The mechanism is `guest/sentry.py` outside the sandbox and `guest/enclave.py` inside. The root is the same read-only tree; what is hidden in
it are places of the host's kernel, since the sandbox has a kernel of its own, with a /proc and a /dev of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from carrel.backends import policy
from carrel.guest import init, sentry
from carrel.guest.threads import SINGLE_THREADED
from carrel.models import MIB, PoolSpec

Image = Mapping[str, Any]  # the spawner's answer to `image`

RUNSC = "/opt/carrel/bin/runsc"
_NOBODY = 65534

# Ids of the cell block for one sandbox, from its first on: root (gVisor's file server), the code's user (owns the files), nobody (gVisor's
# kernel). Inside the sandbox they are as everywhere.
IDS = (0, policy.UID, _NOBODY)
_AGENT = 1  # the agent's real uid inside, which nothing else has: gVisor's pid 1 takes every signal, SIGKILL too, from whoever may send it

# gVisor's kernel, its file server, the agent and the nursery with the image's libraries, none of which namespace sessions are charged for.
# A ceiling, not a reservation; the heavy image's idle session holds some 320 MiB of it.
OVERHEAD_BYTES = 640 * MIB
# What a process may map on top of the memory limit: stacks of threads, arenas. So one that grows without end is told so (MemoryError)
# before the control group would end the whole sandbox; what many hold together the agent watches.
_MAPPED_BYTES = 256 * MIB
# The same where programs run that are not Carrel's, as guests or as commands: V8 for one reserves 1.2 GiB of addresses before it runs a
# line.
_RESERVED_BYTES = 2048 * MIB
# Allocators that would reserve far more than they use, told not to.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
# ptrace and systrap have one thread on the host for each inside, and the kernel's own threads wait for them.
_THREADS_EACH, _OWN_THREADS = 16, 512

HIDDEN = ("/proc", "/dev", "/sys", sentry.WORK, "/opt/carrel/images", "/opt/carrel/bin")

# Quotas of these are kept by the host's kernel, in bytes and in inodes; of the others by gVisor's, which counts bytes only.
_BY_HOST = (policy.DATA, policy.HOME, policy.PACKAGES)

# No caps for the code; the nursery changes its children's ids, and the bounding set is dropped with the rest.
_CAPABILITIES = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]

# systrap is quicker and what newer builds have; kvm is left out: it wants /dev/kvm, which is root's, inside the cell block.
PLATFORMS = ("systrap", "ptrace")
FLAGS = (
    "--root",
    f"{sentry.WORK}/state",
    "--network=none",
    "--ignore-cgroups",  # we have made and joined them
    "--overlay2=none",  # newer builds would write an overlay's file into the read-only root
)

# gVisor lets a process change these of its limits; the others stand in the bundle and hold from the start.
_CHANGEABLE = ("RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK")

_BOOT = "import sys; sys.path.insert(0, '/opt/carrel/lib'); from carrel.guest.enclave import main; main(sys.argv[1])"


# Above what sandboxes of the namespace level have: both may run in one server, and cell blocks of a server map the same range.
FIRST_IDS = range(policy.OWN_IDS + 1, _NOBODY - len(IDS), len(IDS))


def limits(pool: PoolSpec) -> dict[str, Any]:
    """Of the sandbox's control group: the boundary. What the code may use is less, and watched over from inside."""
    return {
        "memory_bytes": pool.memory_bytes + OVERHEAD_BYTES,
        "pids": pool.pids * _THREADS_EACH + _OWN_THREADS,
        "cpu": pool.cpu,
    }


def sandbox(pool: PoolSpec, image: Image, first_id: int, platform: str, wheels: str = "") -> dict[str, Any]:
    """One sandbox, as `guest/sentry.py` takes it. `wheels` as in `policy.sandbox`."""
    ids = [[inside, first_id + index] for index, inside in enumerate(IDS)]
    mounts = policy.tmpfs_mounts(pool, first_id + IDS.index(policy.UID))
    return {
        "ids": ids,
        "image": image["image"],
        "binds": [(f"/opt/carrel/images/{wheels}", policy.WHEELS)] if wheels else [],
        "hidden": HIDDEN,
        "mounts": [(path, options) for path, options in mounts if path in _BY_HOST],
        "runsc": [RUNSC, "--platform", platform, *FLAGS],
        "config": _config(pool, image),
    }


def _config(pool: PoolSpec, image: Image) -> dict[str, Any]:
    """The bundle's config.json: https://github.com/opencontainers/runtime-spec/blob/main/config.md"""
    environment = {**policy.ENVIRONMENT, **image["environment"], **SINGLE_THREADED, **_ENVIRONMENT}
    python = [init.IMAGE_PYTHON, "-I"] if image["runtime"] == "python" else [init.PYTHON, "-I", "-S"]
    arguments = [*python, "-c", _BOOT, json.dumps(inside(pool, image))]
    own = [(path, options) for path, options in policy.tmpfs_mounts(pool, policy.UID) if path not in _BY_HOST]
    tmpfs = [
        {
            "destination": path,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "nodev", *(each for each in options.split(",") if each.startswith(("size", "mode")))],
        }
        for path, options in own
    ]
    fixed = {name: limit for name, limit in _rlimits(pool).items() if name not in _CHANGEABLE}
    return {
        "ociVersion": "1.0.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
            "rlimits": [{"type": name, "hard": limit, "soft": limit} for name, limit in fixed.items()],
        },
        "root": {
            "path": sentry.ROOT,
            "readonly": False,
        },  # it is read-only already, and locked: no user namespace may remount it
        "hostname": policy.HOSTNAME,
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *tmpfs],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }


def inside(pool: PoolSpec, image: Image) -> dict[str, Any]:
    """What `guest/enclave.py` is told: the code's part of the policy."""
    return {
        "uid": policy.UID,
        "agent_uid": _AGENT,
        "environment": policy.environment(pool),
        "data": policy.DATA,
        "preload": image["preload"],
        "runtime": image["runtime"],
        "guest": image["guest"],
        "memory_bytes": pool.memory_bytes,
        "address_space": pool.memory_bytes + _mapped_bytes(pool, image),
        "rlimits": {name: limit for name, limit in _rlimits(pool).items() if name in _CHANGEABLE},
        "agent_rlimits": {"RLIMIT_NOFILE": 4096},
        "landlock": [],  # gVisor has none
        "seccomp": policy.seccomp(has_memory_cgroup=False),
        "agent_seccomp": policy.seccomp(has_memory_cgroup=False, is_agent=True),
    }


def _mapped_bytes(pool: PoolSpec, image: Image) -> int:
    return min(pool.memory_bytes, _MAPPED_BYTES) + (0 if image["runtime"] == "python" else _RESERVED_BYTES)


def _rlimits(pool: PoolSpec) -> dict[str, int]:
    return policy.rlimits(pool, has_memory_cgroup=True)
