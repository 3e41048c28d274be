"""An exported model is evaluated with the protocol of checkpoints."""

import numpy as np
import pytest

from ssd.errors import UserError
from ssd.evaluation.evaluator import evaluate
from ssd.evaluation.model_evaluation import compare_models, evaluate_model


def table(result):
    rows = [(row["image_id"], row["category_id"], row["score"], *row["bbox"]) for row in result.evaluator.results]
    return np.array(sorted(rows))


def test_metrics_and_detections_are_those_of_the_checkpoint(exported):
    expected = evaluate(exported.cfg)
    found = evaluate_model(exported.cfg, exported.folder, provider="cpu")
    assert found.checkpoint == exported.folder / "model.onnx"
    assert found.result.mean_ap == pytest.approx(expected.result.mean_ap, abs=1e-3)
    assert found.result.image_ids == expected.result.image_ids and len(found.result.image_ids) == 4
    assert len(table(found.result)) > 20
    np.testing.assert_allclose(table(found.result), table(expected.result), atol=1e-2)


def test_table_of_models(exported):
    title, row = compare_models(exported.cfg, [exported.folder]).splitlines()
    assert title.split() == ["model", "mAP", "images/s", "MB"]
    assert row.startswith(exported.folder.name) and len(row.removeprefix(exported.folder.name).split()) == 3


def test_a_contradicting_recipe_is_refused(exported):
    cfg = exported.cfg.model_copy(update={"max_detections": 7})
    with pytest.raises(UserError, match="max_detections: .* 7, .*metadata.yaml"):
        evaluate_model(cfg, exported.folder, provider="cpu")
