"""Carrel: a locked code interpreter for every user, conversation or agent."""

__version__ = "0.1.0"
