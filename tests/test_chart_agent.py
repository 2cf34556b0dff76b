"""examples/chart_agent, as its README says to run it: by its script, and by a model behind OpenAI's chat API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Server
from scripted import Script

pytestmark = pytest.mark.one_level

PROGRAM = Path(__file__).parent.parent / "examples/chart_agent/chart_agent.py"


def run(server: Server, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("OPENAI_", "CARREL_", "AZURE_"))}
    environment = {**clean, "CARREL_STATE": str(server.state), **variables}
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_script_mends_its_mistake_draws_and_answers(server: Server, tmp_path: Path) -> None:
    """Each step is run for real: the name is wrong, the chart is there, and the answer is what the session computed."""
    done = run(server, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "KeyError: 'Month'" in done.stdout
    assert done.stdout.endswith("On the hill November is the wettest month, with 176 mm of rain.\n")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def calling(code: str) -> dict[str, Any]:
    function = {"name": "run_python", "arguments": json.dumps({"code": code})}
    return {
        "choices": [
            {"message": {"content": None, "tool_calls": [{"id": "x", "type": "function", "function": function}]}}
        ]
    }


def test_a_model_is_told_what_its_code_did(server: Server, script: Script, tmp_path: Path) -> None:
    """It sees its own code and what that printed; the session keeps variables between its steps."""
    script.say(200, calling("x = sum(1 for _ in open('rainfall.csv'))"))
    script.say(200, calling("print('lines:', x)"))
    script.say(200, {"choices": [{"message": {"content": "There are 13 lines."}}]})

    done = run(server, tmp_path, "How many?", OPENAI_API_KEY="a-key", OPENAI_BASE_URL=script.url, OPENAI_MODEL="m")

    assert done.stdout.endswith("There are 13 lines.\n"), done.stderr
    assert {headers["Authorization"] for _, _, headers, _ in script.asked} == {"Bearer a-key"}
    last = script.asked[-1][3]
    assert (last["model"], last["messages"][1]["content"]) == ("m", "How many?")
    assert [each["content"] for each in last["messages"] if each["role"] == "tool"] == ["done", "lines: 13"]


def test_what_is_missing_is_said(script: Script, server: Server, tmp_path: Path) -> None:
    script.say(401, {"error": {"message": "no such key"}})
    refused = run(server, tmp_path, OPENAI_API_KEY="a-key", OPENAI_BASE_URL=script.url)
    homeless = run(server, tmp_path, CARREL_STATE=str(tmp_path))

    assert (refused.returncode, "401" in refused.stderr, "a-key" in refused.stderr) == (1, True, False)
    assert (homeless.returncode, "carrel serve" in homeless.stderr) == (1, True)
