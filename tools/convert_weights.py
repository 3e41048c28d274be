"""Convert PyTorch weights into a MindSpore checkpoint, and verify the checkpoint against the PyTorch weights:

    python tools/convert_weights.py --config RECIPE --input SOURCE --output OUT.ckpt [--overwrite] [--key value …]

SOURCE                                                      use OUT.ckpt as
state dict of a resnet*, mobilenet_v2 or mobilenet_v3       backbone_ckpt_path of recipes with the backbone of RECIPE
from torchvision or timm
NVIDIA's SSD300 checkpoint, or uvipen's `--model ssd`       ckpt_path of ssd_resnet50, the only RECIPE for them
uvipen's `--model ssdlite`                                  ckpt_path of ssdlite_mobilenetv2, the only RECIPE for it

The format is recognized by the parameter names in SOURCE. A .safetensors file is read without PyTorch. Other files need
PyTorch (pip install -e .[torch]); code in these files is never run. Weights that detectors do not use are listed with
the reason. If any PyTorch or MindSpore parameter is unmatched, the command lists all unmatched parameters and writes no
checkpoint.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import UserError, count_noun, exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.launch import leave_launch

if TYPE_CHECKING:
    from weight_conversion.conversion import Conversion

OPTIONS: dict[str, dict] = {
    "input": {"type": Path, "required": True, "help": "state dict: .safetensors file, or file written by torch.save"},
    "output": {"type": Path, "required": True, "help": "path of the .ckpt file to write"},
    "overwrite": {"action": "store_true", "help": "replace the output file if it exists"},
}


def print_names(title: str, names: list[str]) -> None:
    """Print a title, and a list of parameter names wrapped to lines of 118 characters."""
    print(f"{title}:")
    # Do not break names at hyphens, so that a text search finds the names.
    print(textwrap.fill(", ".join(names), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))


def check_output_path(path: Path, overwrite: bool) -> None:
    """Raise UserError if the path does not end in .ckpt, or if the file exists and `overwrite` is False."""
    if path.suffix != ".ckpt":
        raise UserError(f"--output: {path} does not end in .ckpt. Add the suffix .ckpt to --output.")
    if path.exists() and not overwrite:
        raise UserError(f"--output: {path} already exists. Set --overwrite to replace the file, or change --output.")


def check_complete(conversion: Conversion, path: Path) -> None:
    """Raise UserError if a parameter is unmatched, if a shape or dtype differs, or if a value is not finite.

    conversion: result of the conversion
    path: path of the PyTorch state dict, for messages
    All unmatched names are printed first.
    """
    unexpected, missing, mismatched = conversion.unexpected, conversion.missing, conversion.mismatched
    if unexpected:
        print_names(
            f"{count_noun(len(unexpected), 'PyTorch parameter')} in {path} without a MindSpore parameter", unexpected
        )
    if missing:
        print_names(f"{count_noun(len(missing), 'MindSpore parameter')} missing in {path}", missing)
    if unexpected or missing:
        raise UserError(
            f"{path}: {count_noun(len(unexpected), 'PyTorch parameter')} and "
            f"{count_noun(len(missing), 'MindSpore parameter')} are unmatched. "
            "Set --config to a recipe with the same network."
        )
    if mismatched:
        raise UserError(
            f"{path}: {mismatched[0]} ({count_noun(len(mismatched), 'mismatched parameter')} in total). "
            "Set --config to a recipe with the same network and number of classes."
        )
    non_finite = [name for name, values in conversion.values.items() if not np.isfinite(values).all()]
    if non_finite:
        raise UserError(
            f"{path}: {non_finite[0]}: the values contain NaN or infinity "
            f"({count_noun(len(non_finite), 'such parameter')} in total). Use another file."
        )


def check_class_names(in_file: tuple[str, ...] | None, in_recipe: tuple[str, ...] | None, path: Path) -> None:
    """Raise UserError if the class names in the state dict differ from those in the recipe, or have another order.

    in_file: class names in the state dict, background first; None if the state dict contains no class names
    in_recipe: class names of the recipe, background first; None if the recipe has no class names
    path: path of the PyTorch state dict, for messages
    """
    if in_file is None or in_recipe is None or in_file == in_recipe:
        return
    advice = "Set --data_dir to the dataset used for training, or --classes to the class names in the file."
    for index, (name, recipe_name) in enumerate(zip(in_file, in_recipe)):
        if name != recipe_name:
            problem = f"class {index} is {name!r} in the file, but {recipe_name!r} in the recipe"
            raise UserError(f"{path}: {problem}. {advice}")
    raise UserError(
        f"{path}: the file has {count_noun(len(in_file), 'class name')}, but the recipe has {len(in_recipe)}. {advice}"
    )


def print_notes(conversion: Conversion, asymmetric_layers: list[str]) -> None:
    """Print the differences between the converted MindSpore network and the PyTorch network.

    conversion: result of the conversion
    asymmetric_layers: names of strided backbone layers that MindCV pads on one side only
    """
    if conversion.variance_shifts:
        shift = next(iter(conversion.variance_shifts.values()))
        layers = count_noun(len(conversion.variance_shifts), "BatchNorm layer")
        print(
            f"note: {shift:g} was added to the moving variances of {layers}, because the epsilon is "
            f"{conversion.format.batch_norm_epsilon:g} in PyTorch and different in MindSpore. Inference computes the "
            "same outputs as PyTorch. Training outputs differ slightly, because training uses the batch variances."
        )
    if asymmetric_layers:
        print(
            f"note: MindCV pads only one side of {count_noun(len(asymmetric_layers), 'strided layer')} (the first is "
            f"{asymmetric_layers[0]}), but PyTorch pads both sides, so features differ. To get the same features as "
            "PyTorch, set backbone_padding: torch in the recipe."
        )
    if conversion.format.note:
        print(f"note: {conversion.format.note}")


@exit_cleanly
@report_silence
def main() -> None:
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    leave_launch()
    check_output_path(options.output, options.overwrite)

    from weight_conversion.state_dict import read_state_dict

    state_dict = read_state_dict(options.input)  # before the next imports, which take seconds

    from ssd.config.metadata import model_metadata
    from ssd.models.detector import create_detector
    from weight_conversion.conversion import (
        backbone_target,
        convert,
        detector_target,
        write_checkpoint,
    )
    from weight_conversion.detectors import check_recipe, find_detector

    source = find_detector(state_dict.arrays)  # None for a backbone
    if source is not None:
        check_recipe(cfg, source)
        check_class_names(state_dict.class_names, cfg.classes, options.input)
    net = create_detector(cfg)
    conversion = convert(state_dict, backbone_target(cfg) if source is None else detector_target(cfg, net, source))
    print(f"{options.input}: {count_noun(len(state_dict.arrays), 'array')} in the format of {conversion.format.source}")
    for reason, names in conversion.ignored.items():
        print_names(f"ignored {count_noun(len(names), 'name')} ({reason})", names)
    check_complete(conversion, options.input)
    print_notes(conversion, net.backbone.asymmetric_layers)
    write_checkpoint(
        conversion=conversion,
        state_dict=state_dict,
        net=net,
        path=options.output,
        metadata=None if source is None else model_metadata(cfg),
    )
    num_parameters, num_shifted = len(conversion.values), len(conversion.variance_shifts)
    num_values = sum(value.size for value in conversion.values.values())
    num_reordered = len(conversion.format.channel_orders)
    parameters = count_noun(num_parameters, "parameter")
    print(f"converted {parameters} with {num_values:,} values; channels were reordered in {num_reordered}")
    rounded = f"; {count_noun(num_shifted, 'shifted variance')} may differ by float32 rounding" if num_shifted else ""
    print(f"verified: of {parameters}, {num_parameters - num_shifted} equal the PyTorch weights bit for bit{rounded}")
    print(f"to use the checkpoint, set --{'backbone_ckpt_path' if source is None else 'ckpt_path'} {options.output}")


if __name__ == "__main__":
    main()
