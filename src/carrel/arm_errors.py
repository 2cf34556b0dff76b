"""What Azure Resource Manager calls errors: the codes that its clients and people know, below the one tree of errors.py.

They are the gateway's own and never cross hostlink. `details` holds every fault of a request where it has several.
"""

from __future__ import annotations

from collections.abc import Sequence

from carrel.errors import CarrelError, tree


class ArmError(CarrelError):
    """Base of all."""

    code, status = "BadRequest", 400


class Faults(ArmError):
    """All that is wrong with a resource's definition. Named and told as its only fault, where there is one."""

    code, status = "MultipleErrorsOccurred", 400

    def __init__(self, faults: Sequence[ArmError]) -> None:
        first = faults[0]
        many = f"{len(faults)} errors occurred. The first: {first.message}"
        super().__init__(first.message if len(faults) == 1 else many, target=first.target)
        if len(faults) == 1:
            self.code, self.status = first.code, first.status
        self.details = tuple(faults)


class ApiVersionMissing(ArmError):
    code, status = "MissingApiVersionParameter", 400


class ApiVersionUnknown(ArmError):
    code, status = "InvalidApiVersionParameter", 400


class ContentInvalid(ArmError):
    """The body is not JSON, or not an object."""

    code, status = "InvalidRequestContent", 400


class ParameterInvalid(ArmError):
    """A parameter of the query, or a header."""

    code, status = "InvalidParameter", 400


class NameInvalid(ArmError):
    """Of a resource or group that would be made."""

    code, status = "InvalidResourceName", 400


class LocationMissing(ArmError):
    code, status = "LocationRequired", 400


class LocationUnknown(ArmError):
    code, status = "LocationNotAvailableForResourceType", 400


class PropertyInvalid(ArmError):
    """A property has a value that it cannot have."""

    code, status = "InvalidPropertyValue", 400


class PropertyUnknown(ArmError):
    code, status = "UnknownProperty", 400


class PropertyFixed(ArmError):
    """A property that is decided when the resource is made."""

    code, status = "PropertyChangeNotAllowed", 400


class ContainerTypeUnsupported(ArmError):
    """One of Azure's that this server does not run."""

    code, status = "SessionPoolContainerTypeNotSupported", 400


class ManagementTypeInvalid(ArmError):
    code, status = "SessionPoolInvalidPoolManagementType", 400


class ReadyInvalid(ArmError):
    code, status = "SessionPoolInvalidReadySessionInstances", 400


class McpNotEnabled(ArmError):
    code, status = "SessionMCPServerNotEnabled", 400


class NamespaceInvalid(ArmError):
    code, status = "InvalidResourceNamespace", 404


class SubscriptionNotFound(ArmError):
    code, status = "SubscriptionNotFound", 404


class GroupNotFound(ArmError):
    code, status = "ResourceGroupNotFound", 404


class ResourceNotFound(ArmError):
    code, status = "ResourceNotFound", 404


class OperationNotFound(ArmError):
    code, status = "OperationNotFound", 404


class LocationFixed(ArmError):
    """The resource is there already, elsewhere."""

    code, status = "InvalidResourceLocation", 409


class GroupLocationFixed(ArmError):
    code, status = "InvalidResourceGroupLocation", 409


class BeingDeleted(ArmError):
    code, status = "ResourceBeingDeleted", 409


class GroupBeingDeleted(ArmError):
    code, status = "ResourceGroupBeingDeleted", 409


class ProvisioningFailed(ArmError):
    """What a failed operation answers to those who ask for its result."""

    code, status = "SessionPoolProvisioningFailed", 409


class PrincipalNotFound(ArmError):
    """A role is to be given to somebody who is not known here, and it is not said what they are."""

    code, status = "PrincipalNotFound", 400


class PrincipalTypeWrong(ArmError):
    code, status = "UnmatchedPrincipalType", 400


class RoleDefinitionNotFound(ArmError):
    code, status = "RoleDefinitionDoesNotExist", 404


class AssignmentNotFound(ArmError):
    code, status = "RoleAssignmentNotFound", 404


class AssignmentIdInvalid(ArmError):
    """A role assignment's name is a GUID."""

    code, status = "InvalidRoleAssignmentId", 400


class AssignmentFixed(ArmError):
    """One is there under this name, about something else."""

    code, status = "RoleAssignmentUpdateNotPermitted", 400


class AssignmentExists(ArmError):
    """The same is there, under another name."""

    code, status = "RoleAssignmentExists", 409


class AssignmentLimit(ArmError):
    code, status = "RoleAssignmentLimitExceeded", 400


class LastOwner(ArmError):
    """Nobody would be left who may give roles."""

    code, status = "LastOwnerCannotBeRemoved", 409


class PreconditionFailed(ArmError):
    """If-Match or If-None-Match does not hold."""

    code, status = "PreconditionFailed", 412


ALL = tuple(tree(ArmError))
