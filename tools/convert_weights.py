"""Turn weights of PyTorch's world into a MindSpore checkpoint, and check it back against its source:

    python tools/convert_weights.py --config RECIPE --input SOURCE --output OUT.ckpt [--overwrite] [--key value …]

SOURCE                                             OUT.ckpt serves as
torchvision's or timm's resnet*, mobilenet_v2,     backbone_ckpt_path of recipes with the backbone of RECIPE
mobilenet_v3 state dicts
NVIDIA's SSD300 checkpoints, uvipen's SSD.pth      ckpt_path of ssd_resnet50, the only RECIPE for them

Names in SOURCE decide which of them it is. safetensors files need no PyTorch; others do (requirements-torch.txt), and
are read as data alone. What is left out is listed with the reason. Names without a place here, and parameters of ours
without a value, are listed, and nothing is written.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"))  # where the package is

from ssd.config.command_line import parse_recipe_and_options  # noqa: E402
from ssd.errors import UserError, exit_cleanly  # noqa: E402

OPTIONS = {
    "input": {"type": Path, "required": True, "help": "state dict, .safetensors or what torch.save wrote"},
    "output": {"type": Path, "required": True, "help": "checkpoint to write, .ckpt"},
    "overwrite": {"action": "store_true", "help": "replace OUTPUT if it is there"},
}


def list_names(title: str, names: list[str]) -> None:
    print(f"{title}:")
    # Names have dots and underscores, and must stay whole: they are to be searched for.
    print(textwrap.fill(", ".join(names), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))


def check_output(path: Path, overwrite: bool) -> None:
    if path.suffix != ".ckpt":
        raise UserError(f"--output: got {path}, expected a name that ends in .ckpt; add it")
    if path.exists() and not overwrite:
        raise UserError(f"--output: got {path}, which is there, expected a new file; add --overwrite to replace it")


def refuse_leftovers(found, path: Path) -> None:
    """Raises UserError if a name of either side has no counterpart, or one of another shape."""
    if found.unknown:
        list_names(f"no place for these {len(found.unknown)} of {path}", found.unknown)
    if found.missing:
        list_names(f"no value in {path} for these {len(found.missing)}", found.missing)
    if found.unknown or found.missing:
        raise UserError(
            f"{path}: got {len(found.unknown)} names without a place and {len(found.missing)} parameters without a "
            f"value, expected all of {found.form.name}; nothing is written, take the recipe of that network"
        )
    if found.misfits:
        raise UserError(
            f"{path}: {found.misfits[0]}, and {len(found.misfits) - 1} more such; "
            "use the recipe of the same network and classes"
        )


def refuse_other_classes(classes: tuple[str, ...] | None, ours: tuple[str, ...] | None, path: Path) -> None:
    if classes is not None and ours is not None and classes != ours:
        first = next((pair for pair in zip(classes, ours) if pair[0] != pair[1]), (len(classes), len(ours)))
        raise UserError(
            f"{path}: got other classes than the recipe, {first[0]!r} for {first[1]!r} first, expected the same in the "
            "same order; set --data_dir to their data, or --classes to their names"
        )


def say_what_differs(found, net, one_sided: list[str]) -> None:
    """What the user must know of the function that is computed with the new weights."""
    if found.shifts:
        shift = next(iter(found.shifts.values()))
        print(
            f"note: {shift:g} is added to {len(found.shifts)} variances, because BatchNorm's epsilon is "
            f"{found.form.epsilon:g} there: the same outputs, except in training, which takes variances from batches"
        )
    if one_sided:
        print(
            f"note: {len(one_sided)} strided layers, {one_sided[0]} first, pad one side in MindCV's model and both in "
            "PyTorch's, so features differ; with backbone_padding: torch in the recipe they are the same"
        )
    if found.form.note:
        print(f"note: {found.form.note}")


@exit_cleanly
def main() -> None:
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    check_output(options.output, options.overwrite)

    from torch_files import read_state_dict

    state = read_state_dict(options.input)

    from ssd.checkpoints.metadata import model_metadata
    from ssd.models.detector import create_detector
    from weight_conversion import backbone_target, detector_target, is_detector, match, refuse_other_recipe, write

    whole = is_detector(state)
    if whole:
        refuse_other_recipe(cfg)
        refuse_other_classes(state.classes, cfg.classes, options.input)
    net = create_detector(cfg)
    found = match(state, detector_target(cfg, net) if whole else backbone_target(cfg))
    print(f"{options.input}: {len(state.arrays)} arrays, of {found.form.name} by their names")
    for reason, names in found.left_out.items():
        list_names(f"left out, {reason} ({len(names)})", names)
    refuse_leftovers(found, options.input)
    say_what_differs(found, net, net.backbone.one_sided)
    write(found, state, net, options.output, model_metadata(cfg))
    size, shifted = sum(value.size for value in found.values.values()), len(found.shifts)
    print(f"converted {len(found.values)} parameters, {size:,} values, {len(found.form.orders)} of them reordered")
    exact = f"{len(found.values) - shifted} equal the source bit for bit" + (
        f", {shifted} to the rounding of what was added" if shifted else ""
    )
    print(f"read back: {exact}; the recipe loads them")
    print(f"use it: --{'ckpt_path' if whole else 'backbone_ckpt_path'} {options.output}")


if __name__ == "__main__":
    main()
