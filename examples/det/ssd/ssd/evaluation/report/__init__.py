"""HTML report of an evaluation: metrics, errors by type and example images in one self-contained file."""
