"""What the store has acknowledged outlives the kill -9 of who wrote it, at any moment; what it has not is there whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

KEY = Fernet.generate_key()

# Imports once, then forks the writers: they are killed while they open and migrate, every second one while it writes and commits.
KILLER = """
import asyncio, json, os, random, signal, sys, time
from carrel.store import SeedRecord, Store

template, key, rounds = sys.argv[1], [sys.argv[2].encode()], int(sys.argv[3])
is_anew = "{}" in template  # each round begins with nothing, and ends in the beginning

def count(transaction):
    found = transaction.seeds.get("count")
    return int(found.digest) if found else 0

def step(transaction):
    number = count(transaction) + 1
    transaction.seeds.put(SeedRecord("count", str(number)))
    transaction.seeds.put(SeedRecord(f"row {number:06}", "x" * random.choice([10, 1000, 100_000])))
    return number

async def write(acknowledge):
    store = Store.open(address, key)
    while True:
        os.write(acknowledge, f"{await store.run(step)}\\n".encode())

def acknowledged(pause, is_at_work):
    read, write_end = os.pipe()
    if not (writer := os.fork()):
        os.close(read)
        asyncio.run(write(write_end))
    os.close(write_end)
    with open(read) as lines:
        first = lines.readline() if is_at_work else "0"
        time.sleep(pause)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        return [int(first), *(int(line) for line in lines)]

results = []
for number in range(rounds):
    address = template.format(number)
    numbers = acknowledged(random.uniform(0, 0.02 if is_anew else 0.04), number % 2 and not is_anew)
    store = Store.open(address, key)
    with store.transaction() as transaction:
        last = count(transaction)
        rows = [each.name for each in transaction.seeds.list() if each.name != "count"]
    store.close()
    results.append({"acknowledged": numbers[-1:], "last": last, "whole": rows == [f"row {n:06}" for n in range(1, last + 1)]})
print(json.dumps(results))
"""


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("sqlite", 20),
        ("postgresql", 4),
        pytest.param("sqlite", 200, marks=pytest.mark.thorough),
        pytest.param("postgresql", 200, marks=pytest.mark.thorough),
    ],
)
def test_a_killed_writer_loses_nothing(kind: str, rounds: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/carrel.db"
    if kind == "postgresql":
        address = request.getfixturevalue("postgresql").schema()
    results = _kill(address, rounds)
    last = 0
    for number, result in enumerate(results):
        acknowledged = max([last, *result["acknowledged"]])

        assert acknowledged <= result["last"] <= acknowledged + 1, f"round {number}"
        assert result["whole"], f"round {number}"
        last = result["last"]

    assert last >= rounds // 2, "every second one was killed at work, not on its way there"


@pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.thorough)])
def test_one_killed_at_its_very_beginning_leaves_a_store_that_opens(rounds: int, tmp_path: Path) -> None:
    """While SQLite's file is made, marked and given its tables."""
    results = _kill(f"sqlite:///{tmp_path}/{{}}/carrel.db", rounds)

    assert len(results) == rounds
    assert all(result["whole"] and result["last"] >= max(result["acknowledged"]) for result in results)


def _kill(address: str, rounds: int) -> list[dict[str, Any]]:
    words = [address, KEY.decode(), str(rounds)]
    done = subprocess.run([sys.executable, "-c", KILLER, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
