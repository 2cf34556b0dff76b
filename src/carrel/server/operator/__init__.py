"""The operator plane, `/.carrel/…`: what this server tells those who run it. Beyond Azure."""
