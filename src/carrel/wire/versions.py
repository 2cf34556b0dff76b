"""The api-versions of the data plane and all that differs between them: one table.

Routes exist on every version (the live service does not tell them apart either), and execution envelopes follow the path. What a
version still decides is the shape of files, and how `executions` answers at the one version whose clients read results as text.
"""

from __future__ import annotations

from dataclasses import dataclass

from carrel.errors import ApiVersionInvalid


@dataclass(frozen=True, slots=True)
class Version:
    """What replies look like at one api-version."""

    name: str
    has_old_files: bool = False  # `files`, `files/{name}` and its DELETE answer in the old shape
    executions_status: int = 200  # of a synchronous `POST /executions`
    has_text_scalars: bool = (
        False  # `executions` gives numbers and booleans as strings (.NET reads `executionResult` as string?)
    )


VERSIONS: dict[str, Version] = {
    version.name: version
    for version in (
        Version("2024-02-02-preview", has_old_files=True),
        Version("2024-08-02-preview", has_old_files=True),
        Version("2024-10-02-preview", executions_status=202, has_text_scalars=True),
        Version("2025-02-02-preview"),
        Version("2025-10-02-preview"),
    )
}
SUPPORTED = ", ".join(VERSIONS)
NEWEST = VERSIONS["2025-10-02-preview"]


def decode_version(text: str | None) -> Version:
    """The row of the table for an `api-version` parameter. Raises ApiVersionInvalid where it is missing or unknown."""
    if not text:
        raise ApiVersionInvalid(
            f"The query parameter 'api-version' is required. Known: {SUPPORTED}.", target="api-version"
        )
    version = VERSIONS.get(text.lower())
    if version is None:
        raise ApiVersionInvalid(f"This api-version is not supported. Known: {SUPPORTED}.", target="api-version")
    return version
