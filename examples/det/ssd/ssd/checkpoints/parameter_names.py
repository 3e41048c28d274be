"""Names of parameters in checkpoints: names of MindCV's example, averaged weights, and entries that are no weights."""

from __future__ import annotations

import re

# Patterns of parameter names in MindCV's examples/det/ssd, each with its replacement. The first match is used.
_OPTIONAL_FEATURES = r"(?:features\.)?"  # MindCV's example wraps some layers in a cell `features`
MINDCV_NAMES = [
    (r"^backbone_wrapper\.backbone\.", "backbone.features."),
    (r"^backbone_wrapper\.feature1_expand_layer\." + _OPTIONAL_FEATURES, "neck.expand.0."),
    (r"^backbone_wrapper\.multi_residual\.(\d+)\.conv\.(\d+)\." + _OPTIONAL_FEATURES, r"neck.extras.\1.conv.\2."),
    (r"^backbone_wrapper\.fpn\.lateral_convs_list\.", "neck.lateral."),
    (r"^backbone_wrapper\.fpn\.fpn_convs_list\.(\d+)\." + _OPTIONAL_FEATURES, r"neck.output.\1."),
    (r"^backbone_wrapper\.bottom_up\.blocks\.(\d+)\." + _OPTIONAL_FEATURES, r"neck.downsample.\1."),
    (r"^multi_box\.multi_loc_layers\.", "head.box."),
    (r"^multi_box\.multi_cls_layers\.", "head.cls."),
    (r"^multi_box\.addition_layer_loc\.(\d+)\.(\d+)\." + _OPTIONAL_FEATURES, r"head.box_tower.\1.\2."),
    (r"^multi_box\.addition_layer_cls\.(\d+)\.(\d+)\." + _OPTIONAL_FEATURES, r"head.cls_tower.\1.\2."),
    (r"^multi_box\.loc_layers\.0\.", "head.box."),
    (r"^multi_box\.cls_layers\.0\.", "head.cls."),
]
# Names of checkpoint entries that are not weights: optimizer state, training step state, and JSON records.
NON_WEIGHT_NAMES = re.compile(
    r"^(moments\..*|moment[12]\..*|beta[12]_power|momentum|learning_rate|global_step|current_iterator_step|last_overflow_iterator_step|"
    r"scale_sense|updates|skipped_updates|steps_since_(bad|non_finite)_loss|accumulated\..*|accumulated_batches|"
    r"epoch_num|step_num|training_state|evaluation|model_metadata|meaning)$"
)
# Sums of gradients between two updates. If a gradient overflowed, the next update is skipped and the sums are cleared.
MAY_OVERFLOW = re.compile(r"^accumulated\.")
EMA_PREFIX = "ema."  # prefix of the names of averaged (EMA) weights


def translate_name(name: str) -> str:
    """Translate a parameter name of MindCV's example to the name in this project; return other names unchanged."""
    for pattern, replacement in MINDCV_NAMES:
        translated, count = re.subn(pattern, replacement, name)
        if count:
            return translated
    return name
