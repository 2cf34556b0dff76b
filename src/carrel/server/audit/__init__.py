"""The gateway's part of the audit log: what is recorded of a call, and how it gets to the auditor. Who writes it is in carrel/audit."""
