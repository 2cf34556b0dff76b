"""Microsoft Graph as far as clients of role assignments touch it: who there is."""
