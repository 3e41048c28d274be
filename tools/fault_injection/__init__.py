"""Modules of tools/faults.py: a library that lets file operations fail, and commands that run with it."""
