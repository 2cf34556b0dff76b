"""Bytes to models and back: everything that knows how Azure spells things stands here, and nothing else does.

Decoders take bytes or text from a caller and return frozen values, or raise an error that names the field at fault. Encoders return
bytes ready to send. Which reply differs by api-version is one table, in `versions.py`.
"""
