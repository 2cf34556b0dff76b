"""The spawner's `group` and `ungroup`: control groups of one sandbox, made and removed at the host's word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from carrel.backends.cgroups import Group, Limits, Tree, open_tree, sweep
from carrel.host.parts import Answer, Operation, Request

_NAME = re.compile(
    r"[0-9a-z]+(-[0-9a-z]+)*"
)  # never a path: what the host calls a sandbox becomes a folder's name, made by root


class Groups:
    def __init__(self) -> None:
        sweep()
        self._tree: Tree | None = open_tree()
        self._groups: dict[str, Group] = {}

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"group": self._make, "ungroup": self._remove}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"cgroups": self._tree.version if self._tree else None}

    def _make(self, request: Request, _descriptors: list[int]) -> Answer:
        """The groups of sandbox `name`, and open: what joins its agent to them (`agent` of these), its code, what is `counted`."""
        if self._tree is None:
            return {"agent": 0}, []
        if _NAME.fullmatch(request["name"]) is None:
            raise ValueError("a sandbox's name has letters, digits and dashes")
        group = self._tree.make(request["name"], Limits(**request["limits"]))
        self._groups[request["name"]] = group
        joins, counted = group.open_joins(), group.open_counted()
        described = {"agent": len(group.agent_joins), "counted": list(counted), "version": group.version}
        return described, [*joins, *counted.values()]

    def _remove(self, request: Request, _descriptors: list[int]) -> Answer:
        group = self._groups.pop(request["name"], None)
        if group is not None and self._tree is not None:
            self._tree.remove(group)
        return {}, []

    def close(self) -> None:
        if self._tree is not None:
            self._tree.close()
