"""What leaves a sandbox: which addresses nobody may reach, and (beside it) the process that filters and resolves."""
