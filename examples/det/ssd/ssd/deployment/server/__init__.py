"""HTTP service around an exported model: a page for photographs, JSON, Open Inference Protocol, and metrics."""
