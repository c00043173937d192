"""The faults that reroll survives, injected for real: `python -m benchmarks.reliability --fast` or `--full`.

rows.py        what a row is, and the bench it runs on
toy.py         the `reroll` command with toy networks and planted faults; processes.py starts, kills and reads it
crash.py       kills, signals, resuming, locks
damage.py      torn, flipped, missing and foreign files
full_disk.py   disks that are full, fail or may not be written to
sickness.py    numbers that are not finite, memory, decoders that die, clocks
media.py       damaged, lying and huge footage; hostile.py: playlists, names, folders with traps
bundles.py     bundles from strangers

Rows have the numbers of docs/reliability.md, which says what is promised.
"""
