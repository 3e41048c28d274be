"""Parts of tools/ascend_check.py: compilation, reading of MindSpore's IR, rules and memory estimate."""
