"""What runs inside a sandbox. Standard library only; this folder is copied into the sandbox and nothing of Carrel outside it is there."""
