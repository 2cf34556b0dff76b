"""What Microsoft Graph calls errors, below the one tree of errors.py: the gateway's own, they never cross hostlink."""

from __future__ import annotations

from carrel.errors import CarrelError, tree


class GraphError(CarrelError):
    """Base of all."""

    code, status = "Request_BadRequest", 400


class QueryUnsupported(GraphError):
    """A `$filter` or a parameter that is not understood here."""

    code, status = "Request_UnsupportedQuery", 400


class ObjectNotFound(GraphError):
    code, status = "Request_ResourceNotFound", 404


class RequestDenied(GraphError):
    code, status = "Authorization_RequestDenied", 403


class ObjectConflict(GraphError):
    """There is one already, by an attribute that only one can have."""

    code, status = "Request_MultipleObjectsWithSameKeyValue", 409


ALL = tuple(tree(GraphError))
