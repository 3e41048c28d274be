"""Deployment: export detectors as ONNX and MINDIR models, and run the exported models without the training code."""
