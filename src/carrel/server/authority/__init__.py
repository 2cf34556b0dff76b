"""Our own authority, what Entra is to Azure: tokens for clients' secrets and for users by device code, and what clients read first."""
