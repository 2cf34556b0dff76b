"""Microsoft Graph as far as identities need it: who there is, and making, changing and deleting them."""
