"""Modules of tools/docs_images.py, which makes the pictures of the documentation."""
