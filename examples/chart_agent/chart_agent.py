"""An agent that answers a question about a table by writing Python, and draws a chart.

Its code runs in a session of its own on a Carrel server (or in a pool of Azure), never on this machine:

    python examples/chart_agent/chart_agent.py
    python examples/chart_agent/chart_agent.py "Which month is the driest at the harbour?"

Without a model it plays a script, so that it works offline. With OPENAI_API_KEY it asks a model: OPENAI_MODEL at OPENAI_BASE_URL.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import httpx
from models import Model, Move, OpenAI, Scripted, Step

from carrel.client import ApiError, Client, NotConfigured, SessionClient

DATA = Path(__file__).with_name("rainfall.csv")
CHART = Path("chart.png")
QUESTION = "Which month is the wettest on the hill? Draw the rain of both places by month. The file is rainfall.csv."
MOST_STEPS = 8
MOST_LINES = 14
MOST_TEXT = 4000  # of what one step printed; a model need not read more


def model_of(environment: Mapping[str, str]) -> Model:
    if not environment.get("OPENAI_API_KEY"):
        return Scripted()
    url = environment.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    return OpenAI(
        f"{url.rstrip('/')}/", environment["OPENAI_API_KEY"], environment.get("OPENAI_MODEL") or "gpt-4.1-mini"
    )


def answer(question: str, model: Model, session: SessionClient) -> str:
    """Let the model run code until it has an answer. Each chart that the code shows is kept in CHART."""
    steps: list[Step] = []
    while len(steps) < MOST_STEPS:
        move = model.next(question, steps)
        if not move.code:
            return move.answer
        steps.append(run(move, session))
    return "I ran out of steps."


def run(move: Move, session: SessionClient) -> Step:
    print(f"\n--- the agent runs ---\n{move.code}")
    result = session.run(move.code)
    for picture in result.images:
        print(f"--- it draws {picture.save(CHART)} ---")
    output = result.text[-MOST_TEXT:] or "done"
    print(f"--- it sees ---\n{in_short(output)}")
    return Step(move.code, output)


def in_short(text: str) -> str:
    """For people, who need not read each line of a traceback; the model is told all."""
    lines = text.splitlines()
    return text if len(lines) <= MOST_LINES else "\n".join([lines[0], "…", *lines[2 - MOST_LINES :]])


def main(arguments: list[str]) -> int:
    question = " ".join(arguments) or QUESTION
    try:
        with Client.from_env() as client, client.session(f"chart-{uuid.uuid4()}") as session:
            session.upload("rainfall.csv", DATA)
            told = answer(question, model_of(os.environ), session)
    except NotConfigured as error:
        print(f"No pool to run code in: {error}", file=sys.stderr)
        return 1
    except (ApiError, httpx.HTTPError) as error:
        print(f"It did not work: {error}", file=sys.stderr)
        return 1
    print(f"\n{told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
