"""Microsoft.Authorization: role definitions and role assignments, and the rule that somebody must be left to give roles."""
