"""What shows how a gateway is: made at its start, for the edge, which fills it, and the operator plane, which shows it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from carrel.proc import Proc
from carrel.server.audit.ledger import Ledger
from carrel.server.metrics.requests import Requests
from carrel.server.telemetry import Telemetry
from carrel.server.telemetry.tracer import Tracer
from carrel.tls import LiveCertificate
from carrel.troubles import Troubles


@dataclass(frozen=True, slots=True)
class Passed:
    """An isolation level that this machine does not offer, and what to do about that."""

    level: str
    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What the host found out about this machine when it started, as `carrel doctor` says it."""

    passed_over: tuple[Passed, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        passed = (Passed(each["level"], each["reason"], each["advice"] or "") for each in fields["passed_over"])
        return cls(tuple(passed), tuple(fields["warnings"]))


@dataclass(frozen=True, slots=True)
class Instruments:
    certificate: LiveCertificate
    findings: Findings
    telemetry: Telemetry = field(default_factory=lambda: Telemetry(Tracer()))
    troubles: Troubles = field(default_factory=Troubles)
    requests: Requests = field(default_factory=Requests)
    ledger: Ledger | None = None  # None: no audit log is kept
    proc: Proc = field(default_factory=Proc)
    started_at: float = field(default_factory=time.time)
    pid: int = field(default_factory=os.getpid)
    supervisor: int = field(default_factory=os.getppid)
