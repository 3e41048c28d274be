"""report.html: the metrics of an evaluation, its errors by type and example images, in one self-contained page."""
