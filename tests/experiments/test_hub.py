"""Without a network the hub is asked once, and said why it cannot be had in one line."""

import re

import pytest

from experiments import hub
from experiments.data.source import Source
from experiments.errors import UserError
from experiments.evaluate import documents
from experiments.hub import unreachable  # the fixture of all tests replaces the module's own

REASON = "[Errno -2] Name or service not known"


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(hub, "unreachable", lambda: REASON)


@pytest.mark.integration
def test_data_of_the_hub_fail_at_once_in_one_line(no_network, capfd):
    with pytest.raises(UserError) as error:
        Source(hub="nobody/nothing-at-all", file="sums").rows("train", ())
    assert str(error.value).startswith(
        "nobody/nothing-at-all, split train, cannot be had from the hub (https://huggingface.co cannot be reached: "
        f"{REASON}); give a folder that has sums.train.jsonl: "
    )
    assert "Retry" not in "".join(capfd.readouterr())


def test_what_is_in_the_cache_is_had_without_a_network(no_network, monkeypatch):
    import datasets
    from huggingface_hub import constants

    offline = []

    def cached(*_, **__):
        offline.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        return datasets.Dataset.from_list([{"question": "1 + 1"}])

    monkeypatch.setattr(datasets, "load_dataset", cached)
    assert Source(hub="nobody/in-the-cache", file="sums").rows("train", ("question",)) == [{"question": "1 + 1"}]
    assert offline == [(True, True)]
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, False), "the block alone"


def test_where_the_hub_answers_its_own_error_is_told():
    with pytest.raises(RuntimeError, match="no such split"), hub.one_try():
        raise RuntimeError("no such split")


def test_the_test_sets_of_tasks_too(no_network, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: 1 / 0)
    tests = documents.Source(local="x", hub="nobody/nothing")
    with pytest.raises(UserError, match=rf"cannot be reached: {re.escape(REASON)}\); give downstream.folder=\.\.\."):
        tests.rows(None, [])


def test_the_hub_is_asked_with_a_limit_and_any_answer_counts(monkeypatch):
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append((url, timeout))

    class Silent:
        def head(self, url, timeout):
            raise OSError(f"{REASON}\nand more")

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    assert unreachable() == ""
    assert asked == [("https://huggingface.co", hub.SECONDS)]
    monkeypatch.setattr("huggingface_hub.utils.get_session", Silent)
    assert unreachable() == REASON
