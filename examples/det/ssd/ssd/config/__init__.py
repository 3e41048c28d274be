"""Load recipes: merge YAML files and command-line overrides into one typed, validated, frozen Config."""

from .loading import CONFIGS, load_config
from .schema import Config

__all__ = ["CONFIGS", "Config", "load_config"]
