"""Every command in a block of a page parses: programs, scripts, options, recipes, recipe keys, targets of make."""

import pytest

from command_parsing import check_line
from markdown_pages import ALL, PAGES, READMES, ROOT, parse_page
from ssd.errors import UserError

# Pages that need no command.
# The commands of troubleshooting are inline code, which test_troubleshooting.py parses.
WITHOUT_COMMANDS = {"architecture", "troubleshooting"}


def commands_of(path):
    assert path.is_file(), f"{path.name}: the page is missing"
    return parse_page(path.read_text(encoding="utf-8")).commands


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse(path):
    faults = []
    for line in dict.fromkeys(commands_of(path)):
        try:
            check_line(line)
        except (UserError, SyntaxError) as error:
            faults.append(f"{line}\n    {error}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", [*READMES, *PAGES], ids=lambda path: path.name)
def test_pages_have_commands(path):
    has_none = path.stem.removesuffix("_CN") in WITHOUT_COMMANDS
    assert has_none or any("python " in line or line.startswith(("make ", "ssd ")) for line in commands_of(path))


# --- the check itself ---

TRAIN = "python examples/det/ssd/train.py --config examples/det/ssd/ssd_mobilenetv2.yaml"


@pytest.mark.parametrize(
    "line",
    [
        TRAIN,
        f"{TRAIN} --resume ckpt/own/ssd-3.ckpt --augment.flip_prob 0 --lr=0.1  # comment",
        f'DEVICE_ID=3 {TRAIN} --backbone_ckpt_path "" --extra_layers "[]" --neck fpn',
        f"msrun --bind_core=True --worker_num 8 {TRAIN}",
        "msrun --worker_num 2 --join=True examples/det/ssd/eval.py --config examples/det/ssd/ssd_shapes.yaml",
        "bash ascend8p.sh",
        "DEVICE_NUM=4 bash ascend8p.sh examples/det/ssd/ssd_resnet50.yaml --batch_size 5",
        "ssd",
        "ssd train --help",
        "ssd create-data coco --data_path photos --out_path data/own",
        "python examples/det/ssd/create_data.py coco --data_path a --out_path b --config tests/tiny.yaml",
        "python examples/det/ssd/predict.py --config examples/det/ssd/ssd_shapes.yaml --input a.jpg 'b/*.png'",
        "python tools/benchmark.py step --config examples/det/ssd/ssd_shapes.yaml --steps 3 --batch_size 4",
        "python tools/benchmark.py nms",
        "python tools/rank_table.py --check hccl.json --list=0",
        "python tools/make_shapes.py data/tiny --train 6 --val 2 --size 64",
        "python tools/ablation.py configs/studies/accuracy.yaml out --seeds 0 1 --epoch_size 3",
        ".venv/bin/python tools/doctor.py --device Ascend --config examples/det/ssd/ssd_shapes.yaml --batch_size 4",
        "make demo DATA=photos && make doctor CONFIG=examples/det/ssd/ssd_shapes.yaml",
        "python -c 'import ssd; print(ssd.__version__)'",
        "pip install -e '.[torch]'",
        "docker run -v $PWD:/work ssd make demo",
        "cat /etc/hccn.conf | head > log.txt",
    ],
)
def test_correct_command_parses(line):
    check_line(line)


@pytest.mark.parametrize(
    "line, place",
    [
        (TRAIN.replace("train.py", "trian.py"), "trian.py"),
        (TRAIN.replace("mobilenetv2", "mobilenetv4"), "ssd_mobilenetv4.yaml"),
        (f"{TRAIN} --batchsize 4", "batchsize"),
        (f"{TRAIN} --augment.flip 0", "augment.flip"),
        (f"{TRAIN} --batch_size many", "batch_size"),
        (f"{TRAIN} --batch_size", "batch_size"),
        (f"{TRAIN} extra", "extra"),
        (TRAIN.split(" --config")[0], "--config"),
        (f"msrun --workers 8 {TRAIN}", "--workers"),
        (f"msrun --worker_num 8 {TRAIN} --batchsize 4", "batchsize"),
        ("msrun --worker_num eight train.py", "--worker_num"),
        ("bash ascend8p.sh examples/det/ssd/ssd.yaml", "ssd.yaml"),
        ("bash ascend8p.sh --batchsize 4", "batchsize"),
        ("bash train.sh", "train.sh"),
        ("ssd trian", "trian"),
        ("ssd create-data coc --data_path a --out_path b", "coc"),
        ("python examples/det/ssd/create_data.py coco --data_path a", "--out_path"),
        ("python examples/det/ssd/create_data.py coco --data_path a --out_path b --config c.yaml", "c.yaml"),
        ("python examples/det/ssd/predict.py --config examples/det/ssd/ssd_shapes.yaml", "--input"),
        ("python tools/benchmark.py steps --config examples/det/ssd/ssd_shapes.yaml", "steps"),
        ("python tools/benchmark.py step --config examples/det/ssd/ssd_shapes.yaml --batchsize 4", "batchsize"),
        ("python tools/rank_table.py --list", "--list"),
        ("python tools/make_shapes.py data/tiny --trian 6", "--trian"),
        ("python tools/doctor.py --batch_size 4", "--batch_size"),
        ("python tools/ablation.py configs/studies/accuracy.yaml out --epochsize 3", "epochsize"),
        ("make dmeo", "dmeo"),
        ("make demo DAT=photos", "DAT"),
        ("make doctor CONFIG=ssd.yaml", "ssd.yaml"),
        ("pytohn train.py", "pytohn"),
        ("python -m mindcv", "mindcv"),
        (f"make setup && {TRAIN} --batchsize 4", "batchsize"),
        ("ssd train --config <recipe>", "<"),
        ("docker run ssd make dmeo", "dmeo"),
    ],
)
def test_wrong_command_is_refused(line, place):
    with pytest.raises(UserError) as caught:
        check_line(line)
    assert place in str(caught.value)
