"""`carrel env`: real shells take what it prints, and nothing in a value is ever run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.cli import shells
from carrel.cli.env import FIXED
from carrel.cli.statefolder import write_connection
from test_cli import carrel

HOSTILE = [
    "plain",
    "",
    "with space  and two",
    "single ' double \" back ` tick",
    "$HOME $(touch OWNED) `touch OWNED` ${PATH}",
    "'; touch OWNED; '",
    "\\'; touch OWNED; echo \\'",
    "ends in a backslash \\",
    "line one\nline two; touch OWNED",
    "\u2018; touch OWNED; \u2019 \u201a \u201b",
    "%PATH% !history ~ * ? [a] {a,b} # & | < > ;",
    "Grüße, 世界",
]
RUNNERS = {
    "bash": ["bash", "-c"],
    "dash": ["dash", "-c"],
    "fish": ["fish", "--no-config", "-c"],
    "powershell": ["pwsh", "-NoProfile", "-NonInteractive", "-Command"],
}
SHOW = 'import os, sys; sys.stdout.buffer.write(os.fsencode(os.environ.get("CARREL_TRIED", "(unset)")))'


def run(name: str, script: str, folder: Path) -> str:
    program = RUNNERS[name][0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TERM": "dumb"}
    done = subprocess.run(
        [*RUNNERS[name], script], cwd=folder, env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("name", RUNNERS)
def test_a_value_stays_a_value_in_every_shell(name: str, tmp_path: Path) -> None:
    """What a program that the shell starts finds in its environment is what was given, to the last quote."""
    shell = shells.shell_named(name)
    call = "& " if name == "powershell" else ""
    show = f"{call}{shell.quote(sys.executable)} -c {shell.quote(SHOW)}"
    for value in HOSTILE:
        assert run(name, f"{shell.set('CARREL_TRIED', value)}\n{show}", tmp_path) == value
    lines = [shell.set("CARREL_TRIED", HOSTILE[3]), shell.unset("CARREL_TRIED"), show]
    assert run(name, "\n".join(lines), tmp_path) == "(unset)"
    assert list(tmp_path.glob("**/OWNED")) == []


def test_powershells_quotes_are_doubled() -> None:
    """All five that it takes for one, typographic ones too."""
    assert shells.SHELLS["powershell"].set("A", "x'y\u2019z") == "$env:A = 'x''y\u2019\u2019z'"


@pytest.mark.parametrize(
    ("shell", "parent", "found"),
    [
        ("/usr/bin/fish", "", "fish"),
        ("/usr/bin/fish", "bash", "bash"),  # a script
        ("/bin/zsh", "make", "bash"),
        ("/opt/microsoft/powershell/7/pwsh", "", "powershell"),
        ("/bin/tcsh", "", "bash"),
        ("", "", "bash"),
    ],
)
def test_the_shell_is_the_one_that_called(shell: str, parent: str, found: str) -> None:
    assert shells.guessed({"SHELL": shell}, parent).name == found
    assert shells.guessed({"PSModulePath": "x"}, parent="").name == "powershell"


def connection(**more: object) -> dict[str, object]:
    fields = dict.fromkeys(
        ("http", "https", "ca", "ca_bundle", "arm", "authority", "authority_adfs", "tenant", "client_id", "client_secret",
         "object_id", "token", "arm_token", "identity_endpoint", "identity_header", "subscription"), "x"
    )  # fmt: skip
    pools = {"python": {"endpoint": "http://127.0.0.1:1/python"}, "node": None, "my-pool": {"endpoint": "it's"}}
    return {**fields, "arm": "https://localhost:8443", "pools": pools, **more}


def variables(text: str) -> dict[str, str]:
    return dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines())


def test_everything_is_exported_and_taken_back(tmp_path: Path) -> None:
    write_connection(tmp_path, connection())
    told = variables(carrel("env", "--state", str(tmp_path), "--shell", "bash").stdout)

    assert set(FIXED) <= set(told)
    assert (told["AZURE_TENANT_ID"], told["ARM_METADATA_HOSTNAME"]) == ("adfs", "localhost:8443")
    assert told["CARREL_POOL_MY_POOL"] == "'it'\"'\"'s'"
    undone = carrel("env", "--state", str(tmp_path), "--shell", "fish", "--unset").stdout.splitlines()
    assert {f"set -e {name}" for name in told} == set(undone)
    assert "my-pool" not in carrel("env", "--state", str(tmp_path / "nowhere"), "--unset", "--shell", "sh").stdout
    assert carrel("env", "--state", str(tmp_path / "nowhere"), "--shell", "sh").returncode == 1


def test_without_our_authority_nothing_leads_to_it(tmp_path: Path) -> None:
    closed = dict.fromkeys(("authority", "authority_adfs", "client_secret", "identity_endpoint", "identity_header"))
    write_connection(tmp_path, connection(**closed))

    told = variables(carrel("env", "--state", str(tmp_path), "--shell", "bash").stdout)

    assert not [
        name
        for name in told
        if name.startswith(("AZURE_T", "AZURE_C", "AZURE_A", "IDENTITY_", "ARM_T", "ARM_C", "ARM_M"))
    ]
    assert {"CARREL_TOKEN", "CARREL_ARM", "REQUESTS_CA_BUNDLE"} <= set(told)
