"""What make quick leaves out: all cases but the first, what a mark calls long, what needs a shared fixture."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import cheap, first_cases


@pytest.fixture(scope="module")
def shared():
    return None


@pytest.mark.parametrize("mark", ["integration", "model", "slow"])
def test_a_mark_says_that_a_test_takes_long(mark, request):
    assert cheap(request.node)
    request.node.add_marker(mark)
    assert not cheap(request.node)
    request.node.own_markers.pop()


def test_a_shared_fixture_says_so(shared, request):
    assert not cheap(request.node)


def test_a_fixture_of_one_test_or_of_pytest_does_not(decoder, tmp_path, request):
    assert cheap(request.node)


@given(st.booleans())
@settings(max_examples=1)
def test_of_hypothesis(example):
    """For the next test, which finds it."""


def test_of_every_function_the_first_cheap_case_stays(request):
    here = [item for item in request.session.items if item.path == request.path]
    names = [item.name for item in first_cases(here)]
    assert "test_of_hypothesis" not in names
    assert "test_a_shared_fixture_says_so" not in names
    assert names == [item.name for item in here if item.name in names], "their order stays"
    if len(here) == 7:  # all tests of this file are run
        assert names == [
            "test_a_mark_says_that_a_test_takes_long[integration]",
            "test_a_fixture_of_one_test_or_of_pytest_does_not",
            "test_of_every_function_the_first_cheap_case_stays",
        ]
