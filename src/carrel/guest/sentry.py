"""The outside of a gVisor sandbox: builds a bundle around the calling process and has `runsc` start its sentry there.

Run by a child of the bare template, pid 1 of a pid namespace in the cell block (`guest/template.py`): so nothing here, nor `runsc`, nor the
sentry, nor its file server (the gofer) is ever root of the host, and the death of pid 1, or of the cell block, ends all of them. What is
mounted is data from `backends/bundle.py`; here is only the order of things.

The root that the sandbox sees is the cell block's read-only tree with the image in it; `/run`, which it does not see, holds the bundle and
`runsc`'s state. A user namespace of three ids comes before `runsc`: its root (the gofer), the session's user (who owns the files) and
nobody (the sentry), each a host id of this session's own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import Any

from carrel.guest import linux, sandbox

WORK = "/run"
ROOT = f"{WORK}/root"
_BUNDLE = f"{WORK}/bundle"
_LOG = f"{WORK}/log"
_SCRATCH = f"{WORK}/scratch"
_LAST_LINES = 3
_SAFE = linux.MS_NOSUID | linux.MS_NODEV

Spec = dict[str, Any]  # backends/bundle.py, `sandbox()`, says what is in it


def run(spec: Spec, setup: int, cgroups: list[int]) -> None:
    """Be pid 1 of the sandbox's processes; `setup` gets the agent's channel and its notes, or the reason why not. Returns at their end."""
    with socket.socket(fileno=os.dup(setup)) as answer:
        try:
            descriptors = _start(spec, cgroups)
            socket.send_fds(answer, [b"{}"], descriptors)
        except OSError as error:
            answer.send(json.dumps({"error": f"{error.strerror} {error.filename or ''}".strip()}).encode())
            return
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    sandbox.keep_descriptors([null, null, null])
    while True:  # runsc has left its children to pid 1
        try:
            os.wait()
        except ChildProcessError:
            return


def _start(spec: Spec, cgroups: list[int]) -> list[int]:
    sandbox.join_cgroups(cgroups)
    linux.unshare(
        linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
    )
    _mount_all(spec)
    _enter_user_namespace(spec["ids"])
    for folder in (_BUNDLE, f"{WORK}/state", _SCRATCH):
        os.mkdir(folder)  # noqa: PTH102 - pathlib is an import the template can do without
    with open(f"{_BUNDLE}/config.json", "w") as file:  # noqa: PTH123
        json.dump(spec["config"], file)
    channel, agent_channel = socket.socketpair()
    notes, agent_notes = os.pipe()
    with agent_channel:
        _runsc(spec["runsc"], agent_channel.fileno(), agent_notes)
    os.close(agent_notes)
    return [channel.detach(), notes]


def _mount_all(spec: Spec) -> None:
    linux.mount(f"/opt/carrel/images/{spec['image']}", "/opt/carrel/image", None, linux.MS_BIND)
    linux.mount("proc", "/proc", "proc", _SAFE | linux.MS_NOEXEC)
    root_id = spec["ids"][0][1]
    linux.mount("tmpfs", WORK, "tmpfs", _SAFE, f"size=16m,mode=755,uid={root_id},gid={root_id}")
    os.mkdir(ROOT)  # noqa: PTH102
    linux.mount("/", ROOT, None, linux.MS_BIND | linux.MS_REC)
    for source, path in spec["binds"]:
        linux.mount(source, f"{ROOT}{path}", None, linux.MS_BIND)
    for path in spec["hidden"]:
        linux.mount("tmpfs", f"{ROOT}{path}", "tmpfs", linux.MS_RDONLY | _SAFE, "size=4k,mode=755")
    for path, options in spec["mounts"]:
        linux.mount("tmpfs", f"{ROOT}{path}", "tmpfs", _SAFE, options)


def _enter_user_namespace(ids: list[list[int]]) -> None:
    """A user namespace in which `ids` ([inside, in the cell block]) exist, and be its root.

    More than one id is written by a process that is still outside (user_namespaces(7)): a child, which sees this one as pid 1.
    """
    wait, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        os.read(wait, 1)
        os._exit(_write_maps(ids))
    linux.unshare(linux.CLONE_NEWUSER)
    os.close(wait)
    os.close(go)
    _pid, status = os.waitpid(helper, 0)
    if status != 0:
        raise OSError(os.waitstatus_to_exitcode(status), "a range of host ids is needed; start the server as root")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_maps(ids: list[list[int]]) -> int:
    text = "".join(f"{inside} {outside} 1\n" for inside, outside in ids)
    try:
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{os.getppid()}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, text.encode())
            os.close(fd)
    except OSError as error:
        return error.errno or 1
    return 0


def _runsc(command: list[str], channel: int, notes: int) -> None:
    """Run `runsc` until it has the sandbox started and left. stderr is nobody's: reasons come by its log, which no sandbox can write to."""
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": _SCRATCH, "HOME": WORK}
    try:
        done = subprocess.run(
            [*command, "--log", _LOG, "run", "-detach", "-bundle", _BUNDLE, "session"],
            stdin=channel,
            stdout=notes,
            stderr=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise OSError(error.errno, f"runsc does not run: {error.strerror}") from error
    if done.returncode != 0:
        raise OSError(0, f"runsc ended with status {done.returncode}: {_last_words()}")


def _last_words() -> str:
    try:
        with open(_LOG, errors="replace") as file:  # noqa: PTH123
            lines = file.read(65_536).splitlines()[-_LAST_LINES:]
    except OSError:
        return "it said nothing"
    return " | ".join(line.strip()[:400] for line in lines if line.strip()) or "it said nothing"
