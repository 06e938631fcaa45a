"""What is on the disk of a run: its folder, checkpoints, records, what it says of a failure.

The checkpoints are the truth; all else is derived from them. Nothing here knows a task: what a task
must remember of its data is opaque.
"""
