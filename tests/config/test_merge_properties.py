"""Properties of the merging of recipes: later layers win, and nested and dotted keys are the same."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from ssd.config.loading import merge, nest

values = st.none() | st.booleans() | st.integers(-3, 3) | st.lists(st.integers(0, 2), max_size=2) | st.text(max_size=2)


def layers(depth=2):
    """Recipes in which the keys a and b have values, and c and d have sections, as in the schema."""
    fields = {"a": values, "b": values}
    if depth:
        fields |= {"c": layers(depth - 1), "d": layers(depth - 1)}
    return st.fixed_dictionaries({}, optional=fields)


def flatten(layer, prefix=""):
    """The values of a layer as {dotted key: value}. Empty sections have no values."""
    flat = {}
    for key, value in layer.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


@given(layers(), layers())
def test_the_later_layer_wins_and_the_layers_stay_as_they_are(first, second):
    before = copy.deepcopy((first, second))
    assert flatten(merge(first, second)) == {**flatten(first), **flatten(second)}
    assert (first, second) == before


@given(layers(), layers(), layers())
def test_merging_is_associative_and_idempotent(first, second, third):
    merged = merge(first, second, third)
    assert merge(merge(first, second), third) == merged == merge(first, merge(second, third))
    assert merge(first, first) == first == merge({}, first) == merge(first, {})
    assert merge(merged, third) == merged


@given(layers())
def test_dotted_keys_are_nested_keys(layer):
    flat = flatten(layer)
    assert flatten(nest(flat)) == flat
    assert nest(nest(flat)) == nest(flat)
    assert nest(layer) == layer
