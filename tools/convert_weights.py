"""Convert PyTorch weights into a MindSpore checkpoint, and verify it against its source:

    python tools/convert_weights.py --config RECIPE --input SOURCE --output OUT.ckpt [--overwrite] [--key value …]

SOURCE                                                      use OUT.ckpt as
state dict of a resnet*, mobilenet_v2 or mobilenet_v3       backbone_ckpt_path of recipes with the backbone of RECIPE
from torchvision or timm
NVIDIA's SSD300 checkpoint, or uvipen's SSD.pth             ckpt_path of ssd_resnet50, the only RECIPE for them

The format is recognised by the parameter names in SOURCE. A .safetensors file needs no PyTorch. Other files need it
(pip install -e .[torch]), and code in them is never run. Weights that detectors do not use are listed with the reason.
If any source or target parameter is unmatched, the command lists them all and writes nothing.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import UserError, count_noun, exit_cleanly

if TYPE_CHECKING:
    from weight_conversion.conversion import Conversion

OPTIONS: dict[str, dict] = {
    "input": {"type": Path, "required": True, "help": "state dict: a .safetensors file, or one written by torch.save"},
    "output": {"type": Path, "required": True, "help": "checkpoint to write, a .ckpt file"},
    "overwrite": {"action": "store_true", "help": "replace the output file if it exists"},
}


def print_names(title: str, names: list[str]) -> None:
    print(f"{title}:")
    # Do not break names at hyphens, so that they can be searched for.
    print(textwrap.fill(", ".join(names), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))


def check_output_path(path: Path, overwrite: bool) -> None:
    if path.suffix != ".ckpt":
        raise UserError(f"--output: {path} does not end in .ckpt. Add the ending.")
    if path.exists() and not overwrite:
        raise UserError(f"--output: {path} exists already. Add --overwrite to replace it, or choose another file.")


def check_complete(conversion: Conversion, path: Path) -> None:
    """Raise UserError if a source or target parameter is unmatched, or if shapes or types differ.

    path: file of the state dict
    """
    unexpected, missing, mismatched = conversion.unexpected, conversion.missing, conversion.mismatched
    if unexpected:
        print_names(f"{count_noun(len(unexpected), 'name')} of {path} without a MindSpore parameter", unexpected)
    if missing:
        print_names(f"{count_noun(len(missing), 'MindSpore parameter')} without a value in {path}", missing)
    if unexpected or missing:
        raise UserError(
            f"{path}: {count_noun(len(unexpected), 'name')} without a MindSpore parameter, "
            f"{count_noun(len(missing), 'MindSpore parameter')} without a value. Use the recipe of the same network."
        )
    if mismatched:
        raise UserError(
            f"{path}: {mismatched[0]} ({count_noun(len(mismatched), 'mismatched parameter')}). "
            "Use the recipe of the same network and the same number of classes."
        )


def check_class_names(in_file: tuple[str, ...] | None, in_recipe: tuple[str, ...] | None, path: Path) -> None:
    """Raise UserError if both the state dict and the recipe name their classes, but not the same in the same order."""
    if in_file is None or in_recipe is None or in_file == in_recipe:
        return
    advice = "Set --data_dir to the data that the weights were trained on, or --classes to its class names."
    for index, (name, recipe_name) in enumerate(zip(in_file, in_recipe)):
        if name != recipe_name:
            raise UserError(f"{path}: class {index} is {name!r} here, but {recipe_name!r} in the recipe. {advice}")
    raise UserError(
        f"{path}: {count_noun(len(in_file), 'class name')} here, but {len(in_recipe)} in the recipe. {advice}"
    )


def print_notes(conversion: Conversion, asymmetric_layers: list[str]) -> None:
    """Print how the converted network differs from the PyTorch network.

    asymmetric_layers: names of strided backbone layers that MindCV pads on one side only
    """
    if conversion.variance_shifts:
        shift = next(iter(conversion.variance_shifts.values()))
        variances = count_noun(len(conversion.variance_shifts), "variance")
        print(
            f"note: {shift:g} was added to {variances}, because BatchNorm's epsilon is "
            f"{conversion.format.batch_norm_epsilon:g} in PyTorch. Outputs are the same in inference; in training, "
            "variances come from the batch."
        )
    if asymmetric_layers:
        print(
            f"note: MindCV pads one side of {count_noun(len(asymmetric_layers), 'strided layer')} (the first is "
            f"{asymmetric_layers[0]}) and PyTorch both sides, so features differ. Set backbone_padding: torch in the "
            "recipe to get PyTorch's features."
        )
    if conversion.format.note:
        print(f"note: {conversion.format.note}")


@exit_cleanly
def main() -> None:
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    check_output_path(options.output, options.overwrite)

    from weight_conversion.state_dict import read_state_dict

    state_dict = read_state_dict(options.input)  # before the imports below, which take seconds

    from ssd.config.schema import model_metadata
    from ssd.models.detector import create_detector
    from weight_conversion.conversion import (
        backbone_target,
        check_ssd300_recipe,
        convert,
        detector_target,
        is_detector,
        write_checkpoint,
    )

    whole_detector = is_detector(state_dict)
    if whole_detector:
        check_ssd300_recipe(cfg)
        check_class_names(state_dict.class_names, cfg.classes, options.input)
    net = create_detector(cfg)
    conversion = convert(state_dict, detector_target(cfg, net) if whole_detector else backbone_target(cfg))
    print(f"{options.input}: {count_noun(len(state_dict.arrays), 'array')}, recognised as {conversion.format.source}")
    for reason, names in conversion.ignored.items():
        print_names(f"ignored {count_noun(len(names), 'name')} ({reason})", names)
    check_complete(conversion, options.input)
    print_notes(conversion, net.backbone.asymmetric_layers)
    write_checkpoint(
        conversion=conversion,
        state_dict=state_dict,
        net=net,
        path=options.output,
        metadata=model_metadata(cfg) if whole_detector else None,
    )
    num_parameters, num_shifted = len(conversion.values), len(conversion.variance_shifts)
    num_values = sum(value.size for value in conversion.values.values())
    num_reordered = len(conversion.format.channel_orders)
    parameters = count_noun(num_parameters, "parameter")
    print(f"converted {parameters}: {num_values:,} values, channels of {num_reordered} reordered")
    rounded = f", {num_shifted} up to the rounding of the shifted variances" if num_shifted else ""
    print(f"read back and loaded: {num_parameters - num_shifted} equal the source bit for bit{rounded}")
    print(f"use it: --{'ckpt_path' if whole_detector else 'backbone_ckpt_path'} {options.output}")


if __name__ == "__main__":
    main()
