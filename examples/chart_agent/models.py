"""Who decides what the agent does next: a model that is scripted, and any that speaks OpenAI's chat API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

INSTRUCTIONS = (
    "Answer the question about the file in the working directory. Run Python with the tool as often as you need: variables stay between "
    "runs, pandas and matplotlib are installed, plt.show() shows a figure to the user. Draw one chart, then answer in a sentence or two."
)
TOOL = {
    "type": "function",
    "function": {
        "name": "run_python",
        "description": "Runs Python and gives what it printed, what went wrong and the last expression's value.",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    },
}


@dataclass(frozen=True)
class Step:
    """What was run, and what came of it."""

    code: str
    output: str


@dataclass(frozen=True)
class Move:
    """What a model wants: code to be run, or the answer."""

    code: str = ""
    answer: str = ""


class Model(Protocol):
    def next(self, question: str, steps: list[Step]) -> Move: ...


class Scripted:
    """Does what a model typically does: looks at the data, gets a name wrong, reads the error, mends it, answers by what it saw."""

    _LOOK = "import pandas\nrain = pandas.read_csv('rainfall.csv')\nprint(rain.columns.tolist())\nrain.describe()"
    _GUESS = "rain.plot.bar(x='Month')"
    _CHART = """import matplotlib.pyplot as plt
axes = rain.plot.bar(x='month', figsize=(9, 4.5), rot=45)
axes.set_title('Rain by month')
axes.set_ylabel('mm')
plt.tight_layout()
plt.show()
wettest = rain.loc[rain['hill_mm'].idxmax()]
print(wettest['month'], wettest['hill_mm'])"""

    def next(self, question: str, steps: list[Step]) -> Move:
        if not steps:
            return Move(code=self._LOOK)
        if len(steps) == 1:
            return Move(code=self._GUESS)
        if "KeyError" in steps[-1].output:  # the column has another name: it reads that in the error
            return Move(code=self._CHART)
        month, _, millimetres = steps[-1].output.strip().splitlines()[-1].partition(" ")
        return Move(answer=f"On the hill {month} is the wettest month, with {millimetres} mm of rain.")


class OpenAI:
    """Any model behind OpenAI's chat API: theirs, Azure's, or one of your own, served by vLLM, Ollama and the like."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self._model = model
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)

    def next(self, question: str, steps: list[Step]) -> Move:
        messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": question}]
        for number, step in enumerate(steps):
            messages += self._as_messages(f"call-{number}", step)
        body = {"model": self._model, "messages": messages, "tools": [TOOL]}
        reply = self._http.post("chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]
        for call in reply.get("tool_calls") or ():
            return Move(code=self._code_of(call["function"]["arguments"]))
        return Move(answer=reply.get("content") or "")

    @staticmethod
    def _code_of(arguments: str) -> str:
        try:
            return str(json.loads(arguments)["code"])
        except (ValueError, KeyError, TypeError):  # models do not always keep to what they were told
            return arguments

    @staticmethod
    def _as_messages(call_id: str, step: Step) -> list[dict[str, Any]]:
        call = {
            "id": call_id,
            "type": "function",
            "function": {"name": "run_python", "arguments": json.dumps({"code": step.code})},
        }
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": step.output},
        ]
