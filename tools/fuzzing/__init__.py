"""Fuzzing of the readers of files and requests: targets, mutation of inputs, and the process that runs a target."""
