"""Names and ids of classes on the command line."""

import pytest

from ssd.errors import UserError
from ssd.inference.class_choice import find_labels

CLASSES = ("background", "cat", "traffic light", "18", "Dog")
CATEGORY_IDS = [0, 17, 10, 90, 18]


@pytest.mark.parametrize(
    "chosen, labels",
    [
        (["cat"], {1}),
        (["traffic light", "cat", "cat"], {1, 2}),
        (["17", "90"], {1, 3}),
        (["18"], {3}),  # a class with this name takes precedence over a category id
        ([], set()),
    ],
)
def test_classes_are_names_or_category_ids(chosen, labels):
    assert find_labels(chosen, CLASSES, CATEGORY_IDS) == labels


def test_classes_with_the_same_name_are_chosen_together():
    assert find_labels(["cat"], ("background", "cat", "cat"), [0, 1, 2]) == {1, 2}


@pytest.mark.parametrize(
    "text, named", [("cta", "'cat'"), ("DOG", "'Dog'"), ("Traffic Light", "'traffic light'"), ("zzz", "cat, traffic")]
)
def test_the_error_for_an_unknown_class_names_the_nearest(text, named):
    with pytest.raises(UserError, match=f"^--classes: .*'{text}'.*{named}"):
        find_labels(["cat", text], CLASSES, CATEGORY_IDS)


@pytest.mark.parametrize("text", ["background", "0", "1", "-17", "²"])
def test_the_background_and_unknown_ids_are_refused(text):
    with pytest.raises(UserError, match=f"^--classes: .*'{text}'"):
        find_labels([text], CLASSES, CATEGORY_IDS)


def test_a_long_list_of_classes_is_shortened():
    classes = ["background", *(f"thing {number}" for number in range(80))]
    with pytest.raises(UserError, match="thing 9, …") as error:
        find_labels(["x"], classes, range(81))
    assert "thing 10" not in str(error.value)
