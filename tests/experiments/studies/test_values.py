"""What a study's axis says is what its runs get, and their names are names of files."""

import pytest
from hydra import initialize_config_dir

from experiments.studies.overrides import extra_overrides, passed_on
from experiments.studies.study import Composer, label
from records import NAME_BYTES, ROOT, RecordError

TEXTS = [
    "Think first, then answer.", "Answer: x=1 or no", "Say 'yes' or \"no\"", "plain text", "50% (half)",
    "[not a list]", "{a: b}", "007", "true", "1e5", "null", "", " blanks ", "a\\", "it's", "\\'", "أجب عن السؤال",
    "#1", "~/x", "key=value", "nan", "-1", "a\tb",
]  # fmt: skip


@pytest.mark.parametrize("extra", [[], ["data.max_tokens=300"]], ids=["set on a copy", "left to hydra"])
def test_each_text_is_what_the_run_gets(extra):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose = Composer(["method=badam"], extra)
        assert [compose({"data.system": text})[0].data.system for text in TEXTS] == TEXTS


def test_other_values_keep_their_kind():
    values = [True, None, 3, 2.5, 1e-5]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for extra in ([], ["method.rule=null"]):
            compose = Composer(["method=badam"], extra)
            found = [compose({"max_grad_norm": value})[0].max_grad_norm for value in values]
            assert list(map(repr, found)) == list(map(repr, values))


@pytest.mark.parametrize("sign", ["", "+", "++", "~"])
@pytest.mark.parametrize("key", ["how.records_dir", "how.export", "how.checkpoint.every", "data.source.local"])
def test_every_spelling_of_an_override_is_obeyed(sign, key):
    given = [f"{sign}{key}=x"]
    assert extra_overrides(given) == []
    assert passed_on(given) == given
    assert extra_overrides([f"{sign}steps=3"]) == [f"{sign}steps=3"]


@pytest.mark.parametrize("text", ["You are careful. " * 12, "أجب عن السؤال خطوة " * 9, "../a" * 99])
def test_a_long_value_becomes_a_name_of_a_file(text):
    name, other = (label({"data.system": value, "seed": 0}) for value in (text, text + "!"))
    assert len(name.encode()) <= NAME_BYTES
    assert name != other
    assert "/" not in name
    assert not name.startswith(".")


@pytest.mark.parametrize("name", ["a/b", "../a", "a b", ".hidden", "", "x" * 200])
def test_a_study_whose_name_is_no_name_of_a_file_is_refused(name, entries):
    with pytest.raises(RecordError, match="the study's name="):
        entries(name, {"method": ["sgd"]})
