"""How fast reroll is: the machine, training, a plain PyTorch loop beside it, sampling, memory, start-up, sizes.

`python -m benchmarks.speed` prints the tables. A file makes each: `tables(bench)`, where the `Bench` says what is
measured and on what; `children.py` runs what needs a process of its own.
"""
