"""What `deploy/` ships: units and a container that are what they say, and a server that works under what they impose."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import container_profile
import jail
from carrel.cli import launch
from carrel.cli.capabilities import KEPT
from carrel.client import Client
from conftest import SLIM, fresh_identifier
from processes import eventually

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = ["carrel.service", "carrel-root.service"]
BEYOND = """
    bpf perf_event_open keyctl add_key request_key init_module finit_module kexec_load ptrace reboot swapon iopl ioperm open_by_handle_at
    userfaultfd io_uring_setup process_vm_writev settimeofday clock_settime acct quotactl syslog
"""
INSTRUCTIONS = [
    "FROM",
    "RUN",
    "WORKDIR",
    "COPY",
    "USER",
    "VOLUME",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
]


def test_the_profile_is_the_one_that_the_lists_make() -> None:
    """tools/container_profile.py > deploy/seccomp.json"""
    assert json.loads((DEPLOY / "seccomp.json").read_text()) == container_profile.profile()


def test_the_profile_names_no_call_that_reaches_beyond_a_container() -> None:
    rules = json.loads((DEPLOY / "seccomp.json").read_text())["syscalls"]
    allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}

    assert not allowed & set(BEYOND.split())


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_the_unit(unit: str, tmp_path: Path) -> None:
    """No unknown setting, no missing value. What it starts is not where the unit says on this machine, so the copy names what is."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    text = (
        (DEPLOY / unit)
        .read_text()
        .replace("/opt/carrel/.venv/bin/carrel", str(Path(sys.executable).with_name("carrel")))
    )
    (tmp_path / unit).write_text(text.replace("Conflicts=carrel.service\n", ""))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit], capture_output=True, text=True, check=False
    )

    assert [line for line in done.stderr.splitlines() if unit in line] == []


def test_the_units_have_the_capabilities_that_are_needed() -> None:
    """Root's are the list that the server itself keeps; the user's are what newuidmap and newgidmap need."""
    assert bounding_set("carrel-root.service") == set(KEPT)
    assert bounding_set("carrel.service") == {"CAP_SETUID", "CAP_SETGID"}


def bounding_set(unit: str) -> set[str]:
    lines = re.findall(r"^CapabilityBoundingSet=(.*)$", (DEPLOY / unit).read_text(), re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_the_container_file_is_sound() -> None:
    """Each instruction is one that there is; base and user are pinned down; packages leave no lists; what is copied exists."""
    text = (DEPLOY / "Containerfile").read_text()
    instructions = [
        line.split(None, 1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line and not line.startswith("#")
    ]
    names = [name for name, _rest in instructions]

    assert set(names) <= set(INSTRUCTIONS)
    assert names.count("FROM") == 1 and names.count("ENTRYPOINT") == 1 and names.count("CMD") == 1
    given = dict(zip(names, [rest for _name, rest in instructions], strict=True))
    assert re.fullmatch(r"debian:[a-z]+-slim", given["FROM"])
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", given["USER"])
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))
    for name, rest in instructions:
        if name == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists/*" in rest
        if name == "COPY":
            assert all((ROOT / source).exists() for source in rest.split()[:-1])
        if name in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list)


# Root's part of `docker run`: the profile, two capabilities, the user. argv: profile, uid, gid, command.
CONTAIN = """
import ctypes, json, os, sys
import pyseccomp
from carrel.guest import linux
profile, uid, gid = json.load(open(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(profile["defaultErrnoRet"]))
program.set_attr(pyseccomp.Attr.CTL_NNP, 0)
for rule in profile["syscalls"]:
    action = pyseccomp.ERRNO(rule["errnoRet"]) if "errnoRet" in rule else pyseccomp.ALLOW
    for name in rule["names"]:
        try:
            program.add_rule(action, name)
        except (OSError, ValueError):
            pass  # a call of another architecture
program.load()
linux.limit_capabilities((6, 7))
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
os.execv(sys.argv[4], sys.argv[4:])
"""
# The mounts of carrel.service: all read-only but the state folder and /tmp.
STRICT = """
set -e
mount --make-rprivate /
mount --bind {temporary} {temporary}
mount -o remount,bind,ro /
exec setpriv --reuid={uid} --regid={gid} --clear-groups --bounding-set=-all,+setuid,+setgid --inh-caps=-all "$@"
"""


@pytest.fixture
def account(request: pytest.FixtureRequest) -> pwd.struct_passwd:
    """An ordinary user other than the one of the tests, who has to be root to become him."""
    if os.geteuid() != 0:
        pytest.skip("only root can be what Docker and systemd are")
    name = request.config.getoption("--user") or "nobody"
    if not jail.can_run(name):
        pytest.skip(f"user {name} cannot run {sys.executable}")
    return pwd.getpwnam(name)


@contextmanager
def served(command: list[str], state: Path, images: Path, account: pwd.struct_passwd) -> Iterator[Client]:
    """`carrel serve` behind `command`, at level namespace."""
    (state / "config.toml").write_text(SLIM)
    for path in (state, images, state / "config.toml"):
        shutil.chown(path, account.pw_uid, account.pw_gid)
    words = [sys.executable, "-P", "-m", "carrel.cli", "serve", "--state", str(state), "--port", "0", "--tls-port", "0"]
    words += ["--images", str(images), "--config", str(state / "config.toml"), "--isolation", "namespace"]
    environment = {**os.environ, "HOME": str(state)}
    process = subprocess.Popen([*command, *words], env=environment, stdout=subprocess.DEVNULL)
    try:
        there = eventually(lambda: (state / "connection.json").exists() or process.poll() is not None, 120)
        assert there and process.poll() is None
        with Client.from_connection(state, identifier=fresh_identifier()) as client:
            yield client
    finally:
        launch.stop(process)


@pytest.fixture
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="carrel-deploy-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    """Built once for both, by whoever is the user."""
    with tempfile.TemporaryDirectory(prefix="carrel-deploy-") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["docker", "systemd"])
def test_a_server_works_under_what_is_shipped(kind: str, state: Path, images: Path, account: pwd.struct_passwd) -> None:
    """Sessions at level namespace: under the container's profile and capabilities, and in the unit's read-only mounts."""
    uid, gid = str(account.pw_uid), str(account.pw_gid)
    if kind == "docker":
        command = [sys.executable, "-c", CONTAIN, str(DEPLOY / "seccomp.json"), uid, gid]
    else:
        command = ["unshare", "-m", "sh", "-c", STRICT.format(temporary=tempfile.gettempdir(), uid=uid, gid=gid), "sh"]
    with served(command, state, images, account) as client:
        assert client.execute(
            "import os; (os.getuid(), open('/proc/self/status').read().split('Seccomp:')[1][1])"
        ).is_ok
        assert client.execute("import ssl, sqlite3; 6 * 7").result == 42
        client.execute("import os; os._exit(1)")
        assert client.execute("1 + 1").result == 2
