"""Exported models: detection without training code, and an HTTP service."""
