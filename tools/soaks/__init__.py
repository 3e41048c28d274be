"""Modules of tools/soak.py: long runs with kills or bad requests, and the checks of what they leave behind."""
