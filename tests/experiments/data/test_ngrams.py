"""Words and shared n-grams of texts that are not English."""

import unicodedata

import pytest

from experiments.data.ngrams import Index, words

FORMULA = "قَالَ رَسُولُ اللَّهِ صَلَّى اللَّهُ عَلَيْهِ وَسَلَّمَ "
ONE = FORMULA + "كُنْ فِي الدُّنْيَا كَأَنَّكَ غَرِيبٌ أَوْ عَابِرُ سَبِيلٍ"
OTHER = FORMULA + "الدِّينُ النَّصِيحَةُ لِكُلِّ مُسْلِمٍ وَمُسْلِمَةٍ"


@pytest.mark.parametrize(
    "text", [ONE, OTHER, "हिन्दी भाषा", "שָׁלוֹם עוֹלָם", "می\u200cخواهم بروم", "Tiếng Việt", "ภาษาไทย", "한국어 단어"]
)
def test_a_word_with_its_marks_is_one_word(text):
    assert len(words(text)) == len(text.split())


def test_texts_that_share_a_formula_share_no_gram_of_thirteen_words():
    index = Index({"set": [[ONE]]}, 13, 8)
    assert index.add(0, [OTHER]) == 0
    assert index.add(1, [ONE]) == 1


def test_spellings_with_and_without_signs_meet():
    bare = "".join(c for c in ONE if not unicodedata.combining(c))
    assert bare != ONE
    assert words(bare) == words(ONE) == words(ONE.replace("قَالَ", "قَـالَ"))  # with a tatweel
    assert words("שָׁלוֹם") == words("שלום")


def test_composed_and_decomposed_spellings_meet_and_other_marks_count():
    assert words(unicodedata.normalize("NFD", "Café")) == words("café") != words("cafe")
    assert words("हिन्दी") != words("हनद")
