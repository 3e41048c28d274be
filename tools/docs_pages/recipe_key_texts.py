"""Texts of the pages of recipe keys that are not in the schema, in English and Chinese."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts of one language. The pages have the same paragraphs in the same order.

    title … see_also: Markdown; `columns` are the headings of the tables
    sections: {section of the schema: heading}
    notes: {section of the schema: paragraph above its table}
    defaults: {key: default that loading a recipe determines}
    required: default column of keys that each recipe must contain
    choices: sentence for values of a key that are too long for the table, with {key} and {values}
    """

    title: str
    switch: str
    introduction: str
    columns: tuple[str, str, str, str, str]
    sections: dict[str, str]
    notes: dict[str, str]
    defaults: dict[str, str]
    required: str
    choices: str
    see_also: str


COMMAND = """\
```
python examples/det/ssd/train.py --config examples/det/ssd/ssd_mobilenetv2.yaml --batch_size 16 --augment.flip_prob 0
```"""

ENGLISH = Texts(
    title="Recipe keys",
    switch="English | [简体中文](recipe-keys_CN.md)",
    introduction=f"""\
This page lists all keys of a recipe with type, range, default and meaning. `make docs` generates it from
[schema.py](../ssd/config/schema.py), so do not edit it.

A recipe is a YAML file of `key: value` lines that describes a detector and its training. The key `__BASE__` lists
files whose keys the recipe extends or overrides. On the command line, `--key value` overrides the recipe. Nested keys
have a dot:

{COMMAND}

- An unknown key stops the command. The message names the most similar key.
- A key whose default is `null` also accepts `null`: the setting is then off, or the value is derived.
- Keys with two defaults have one for Ascend and one for CPU, from
  [ascend.yaml](../../../../configs/runtime/ascend.yaml) and [cpu.yaml](../../../../configs/runtime/cpu.yaml). A recipe
  overrides `ascend.yaml`. `cpu.yaml` overrides recipes.
- ¹ The value is stored with checkpoints. A checkpoint is refused if the recipe has another value.
  eval.py and predict.py only warn of other values of `image_size` and `steps`.
- ² The value changes the evaluation scores of a checkpoint. `metrics.json` contains the value.""",
    columns=("key", "type", "range", "default", "meaning"),
    sections={
        "Paths": "Paths",
        "Classes": "Classes",
        "Detector": "Detector",
        "extra_layers": "Extra layers",
        "Loss": "Loss",
        "Training": "Training",
        "augment": "Augmentation",
        "Evaluation and prediction": "Evaluation and prediction",
        "Device": "Device",
    },
    notes={
        "extra_layers": "These are the keys of each item of `extra_layers`. The command line replaces the whole list.",
        "augment": "Augmentation applies to training images only.",
        "Device": "`jit_level: O0` runs a graph operator by operator, `O1` fuses operators, and `O2` compiles the "
        "whole graph.\nOn a CPU the level has no effect. The levels of `amp_level` are those of NVIDIA's Apex, and "
        "unrelated to `jit_level`.",
    },
    defaults={"num_classes": "from the data", "device_target": "detected"},
    required="required",
    choices="Values of `{key}`: {values}.",
    see_also="See also: [Training](training.md), [Evaluation](evaluation.md), [Ascend](ascend.md), "
    "[Architecture](architecture.md)",
)

CHINESE = Texts(
    title="配方配置项",
    switch="[English](recipe-keys.md) | 简体中文",
    introduction=f"""\
本页列出配方文件（recipe，YAML）的全部配置项，包括类型、取值范围、默认值和含义。
本页由 `make docs` 根据 [schema.py](../ssd/config/schema.py) 生成，请勿手动修改。

配方是由 `key: value` 行组成的 YAML 文件。`__BASE__` 列出若干文件，配方扩展或覆盖这些文件中的配置项。
命令行中的 `--key value` 覆盖配方，嵌套的配置项用点号连接：

{COMMAND}

- 遇到未知的配置项时，命令会停止，报错中给出最相近的配置项。
- 默认值为 `null` 的配置项也可以设为 `null`：此时不启用该设置，或由程序推导其值。
- 如果 Ascend 和 CPU 各有一个默认值，则默认值来自 [ascend.yaml](../../../../configs/runtime/ascend.yaml)
  和 [cpu.yaml](../../../../configs/runtime/cpu.yaml)。配方覆盖 `ascend.yaml`，而 `cpu.yaml` 覆盖配方。
- ¹ 该值保存在 checkpoint（权重文件）中。如果配方中的值不同，会拒绝加载该 checkpoint。
  对于 `image_size` 和 `steps` 的其他值，eval.py 和 predict.py 只给出警告。
- ² 该值会改变 checkpoint 的评估结果，并记录在 `metrics.json` 中。""",
    columns=("配置项", "类型", "取值范围", "默认值", "含义"),
    sections={
        "Paths": "路径",
        "Classes": "类别",
        "Detector": "检测模型",
        "extra_layers": "附加层",
        "Loss": "损失",
        "Training": "训练",
        "augment": "数据增强",
        "Evaluation and prediction": "评估与推理",
        "Device": "设备",
    },
    notes={
        "extra_layers": "下表是 `extra_layers` 中每一项的配置项。命令行会替换整个列表。",
        "augment": "数据增强只用于训练图片。",
        "Device": "`jit_level: O0` 逐算子执行计算图，`O1` 融合算子，`O2` 编译整图。在 CPU 上该级别没有作用。\n"
        "`amp_level` 的级别与 NVIDIA Apex 相同，与 `jit_level` 无关。",
    },
    defaults={"num_classes": "由数据决定", "device_target": "自动检测"},
    required="必填",
    choices="`{key}` 的取值：{values}。",
    see_also="另请参阅：[训练](training_CN.md)、[评估](evaluation_CN.md)、[昇腾](ascend_CN.md)、"
    "[架构](architecture_CN.md)",
)
