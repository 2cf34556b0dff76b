"""The auditor: the process that owns the audit log. What it does with it is in carrel/audit."""
