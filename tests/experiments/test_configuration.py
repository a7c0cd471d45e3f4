"""What cannot be made of a configuration, in one line."""

import pytest

from experiments import configuration
from experiments.errors import UserError


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"_target_": "bcd.find_layers"},
            "_target_=bcd.find_layers is not there; write _target_=bcd.outside.find_layers",
        ),
        (
            {"_target_": "experiments.methods.BlockMethod", "order": {"_target_": "bcd.Elementwise"}},
            "order._target_=bcd.Elementwise is not there; write order._target_=bcd.rules.rule.Elementwise",
        ),
        ({"_target_": "bcd.Nowhere"}, "_target_=bcd.Nowhere cannot be loaded: ModuleNotFoundError"),
        ({"_target_": "no_such_library.Rule"}, "_target_=no_such_library.Rule cannot be loaded: ModuleNotFoundError"),
        (
            {"_target_": "bcd.Adam", "depth": 3},
            "bcd.rules.adam.Adam cannot be made: Adam.__init__() got an unexpected keyword",
        ),
        ({"_target_": 5}, "Expected a callable target, got '5' of type 'int'"),
    ],
)
def test_a_target_that_cannot_be_made_is_one_short_line(config, message):
    with pytest.raises(UserError) as error:
        configuration.build(config)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_the_cause_of_a_refused_value_is_the_error():
    with pytest.raises(ValueError, match=r"^eps=-1"):
        configuration.build({"_target_": "bcd.Adam", "eps": -1.0})
