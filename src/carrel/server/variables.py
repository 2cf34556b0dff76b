"""`session/variables`: the interpreter's variables as JSON, without any code of the caller's. They take their turn as code does."""

from __future__ import annotations

from carrel.errors import RequestInvalid
from carrel.models import Execution, ExecutionSpec, Status
from carrel.server.call import Call, session_headers
from carrel.wire import jsons
from carrel.wire.programs import decode_names, decode_variables
from carrel.wire.variables import encode_summaries, summaries_from

SUMMARY_S = 10.0  # a guest gives itself one; what takes longer is stopped as code is
_SAYS = "carrel: "  # a guest's own lines on stderr begin so


async def get(call: Call) -> None:
    """`GET session/variables?name=…`: those of the named that there are; with `summary=true` what there are. Allocates no session."""
    identifier = call.identifier()
    if call.flag("summary"):
        return await _summary(call, identifier)
    return await _values(call, identifier)


async def _values(call: Call, identifier: str) -> None:
    names = decode_names(tuple(call.query.get("name", "").split(",")), "name")
    await call.link.session(call.pool.name, identifier)
    view, execution = await call.link.execute(
        call.pool.name, identifier, ExecutionSpec("", wanted=names, is_fleeting=True)
    )
    _require(execution)
    await call.exchange.reply(200, jsons.encode(execution.variables or {}), session_headers(view))


async def _summary(call: Call, identifier: str) -> None:
    if "name" in call.query:
        raise RequestInvalid("A summary is of all variables: it takes no 'name'.", target="name")
    await call.link.session(call.pool.name, identifier)
    spec = ExecutionSpec("", timeout=SUMMARY_S, has_summary=True, is_fleeting=True)
    view, execution = await call.link.execute(call.pool.name, identifier, spec)
    _require(execution)
    found, total = summaries_from(execution.variables or {})
    await call.exchange.reply(200, encode_summaries(found, total), session_headers(view))


async def put(call: Call) -> None:
    """`PUT session/variables`: sets those of the body, a JSON object, and leaves the others."""
    variables = decode_variables(await call.exchange.body(jsons.MAX_BODY))
    spec = ExecutionSpec("", variables=variables, is_fleeting=True)
    view, execution = await call.link.execute(call.pool.name, call.identifier(), spec)
    _require(execution)
    if reason := _refused(execution):
        raise RequestInvalid(f"{reason}.", target="variables")
    await call.exchange.reply(204, headers=session_headers(view))


def _require(execution: Execution) -> None:
    """The interpreter's own words, where it did not live to do it."""
    if execution.status is not Status.SUCCEEDED:
        reason = execution.stderr.strip().rpartition("\n")[2][:500] or execution.status
        raise RequestInvalid(f"The interpreter did not do this: {reason}", target="variables")


def _refused(execution: Execution) -> str | None:
    """What a guest says of names that its language does not take: the others are set."""
    lines = [line for line in execution.stderr.splitlines() if line.startswith(_SAYS)]
    return lines[0].removeprefix(_SAYS)[:500] if lines else None
