"""The budgets, measured: `make bench`. Each line stands beside its floor, taken in turns in the same run, since machines are noisy.

    __main__    runs the lines, prints the table, writes out/bench.json and, with --write-docs, docs/reference/benchmarks.md
    calls       first and later calls over HTTP        creation    new sandboxes, straight from the backend
    memory      what an idle session takes             transfer    128 MB up and down
    floors/     the same work with no product in between; each file a program of its own

Budgets are ratios or differences wherever they can be: absolute times say more about the machine than about Carrel.
"""
