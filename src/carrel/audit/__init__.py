"""The audit log: who did what to which pool or session, in files that tell when somebody has changed them.

Theory of operation. Each record is one line of JSON. It holds the hash of the line before it (`previous`), and its own last field,
`hash`, is an HMAC-SHA256 of all that stands before that, under a key that lies outside of the folder: who can write the files and not
read the key can neither change a line nor add one. Files follow each other by size and age, and the chain runs on from one to the next.
Beside them lies `head`, which says, under the same key, how far the chain had come when it was last safe on the disk: a log that ends
before that was cut. What is removed because it is old is told in the log itself, so that a beginning which went so is told from one
that was taken away.

    chain.py      a line: sealed, opened           head.py     how far the chain has come     folder.py   the files' names and order
    trail.py      appends, begins files, mends     reading.py  records that fit a filter      verifying.py  the whole chain, checked

Who writes is the auditor alone (carrel/auditor), one process. Reading takes the folder and nothing of a server that runs.
"""
