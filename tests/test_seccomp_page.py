"""docs/security/seccomp.md says what the lists say: a reviewer need not read both."""

from __future__ import annotations

import re
from pathlib import Path

from carrel.backends import arguments, policy
from carrel.models import PoolSpec

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "tests/security/docker_profile.txt"
PARTLY = {
    "clone",
    "socket",
    "socketpair",
    "setsockopt",
    "prlimit64",
    "setrlimit",
    *arguments.BY_NUMBER,
    *arguments.WITHOUT_FLAG,
}


def named(heading: str, *, rows: bool = True) -> list[str]:
    """What stands in backticks in the first column of the section's table, or in all of the section."""
    text = (ROOT / "docs/security/seccomp.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")] if rows else [text]
    return [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)]


def docker() -> set[str]:
    return {word for line in DOCKER.read_text().splitlines() if not line.startswith("#") for word in line.split()}


def test_every_difference_to_dockers_profile_is_explained() -> None:
    """Each call that one list has and the other has not, once, and no other."""
    ours = {*policy.ALLOWED_SYSCALLS, *PARTLY}

    assert sorted(named("Allowed by Docker, refused here")) == sorted(docker() - ours)
    assert sorted(named("Allowed here, not by Docker's")) == sorted(ours - docker())


def test_every_check_of_arguments_is_explained() -> None:
    assert sorted(named("Allowed by argument")) == sorted(PARTLY)
    assert not PARTLY & set(policy.ALLOWED_SYSCALLS), "allowed altogether, a check of arguments is none"


def test_the_agents_list_is_on_the_page() -> None:
    assert sorted(named("The agent's", rows=False)) == sorted(policy.NOT_FOR_AGENTS)


def test_every_limit_is_on_the_page() -> None:
    limits = policy.rlimits(PoolSpec("any"), has_memory_cgroup=False)

    assert sorted(named("Limits of each process")) == sorted(limits)
