"""Sentences: English text that a page can say in another language."""

import copy
import json

from contract.sentences import is_said, joined, said, translated

GERMAN = {
    "%(name)s is %(state)s": "%(name)s: %(state)s",
    "full": "voll",
    "%(count)s of %(all)s": "%(count)s von %(all)s",
}


def lookup(template: str) -> str:
    """A catalogue."""
    return GERMAN.get(template, template)


def test_a_sentence_is_english_text_wherever_it_goes() -> None:
    sentence = said("%(name)s is %(state)s", name="100 %", state=said("full"))
    assert sentence == "100 % is full"
    assert json.dumps([sentence]) == '["100 % is full"]'
    assert f"{sentence}." == "100 % is full."


def test_it_is_said_in_another_language_with_what_stands_in_it() -> None:
    sentence = said("%(name)s is %(state)s", name="member-1", state=said("full"))
    assert translated(sentence, lookup) == "member-1: voll"
    assert translated(joined("; ", [sentence, said("%(count)s of %(all)s", count=1, all=2)]), lookup) == (
        "member-1: voll; 1 von 2"
    )
    assert translated(joined(", ", []), lookup) == ""
    assert translated("full", lookup) == "full", "somebody's own words stay"
    assert translated(said("100 % sure"), lookup) == "100 % sure"


def test_a_copy_can_be_said_too() -> None:
    sentence = copy.deepcopy(said("%(name)s is %(state)s", name="member-1", state=said("full")))
    assert translated(sentence, lookup) == "member-1: voll"


def test_a_number_is_written_as_its_language_does() -> None:
    for value, english, german in ((99.5, "99.5 %", "99,5 %"), (100.0, "100 %", "100 %"), (7, "7 %", "7 %")):
        sentence = said("%(number)s %%", number=value)
        assert (sentence, translated(sentence, lookup)) == (english, english)
        told = joined(": ", ["b 0.5", sentence])
        assert translated(told, lookup, lambda number: f"{number:g}".replace(".", ",")) == f"b 0.5: {german}"
    assert is_said(said("%(number)s %%", number=99.5))
    assert translated(0.5, lookup) == "0.5"


def test_whose_words_they_are() -> None:
    assert is_said(said("full"))
    assert is_said(said("%(name)s is full", name="member-1"))
    for value in ("5 min", "3 d"):
        assert is_said(said("in trouble for %(span)s", span=value)), value
    for value in ("5 mines", "no 5 min", "5 min and more", "99.87 %"):
        assert not is_said(said("in trouble for %(span)s", span=value)), value
    assert not is_said("It says so itself.")
    assert not is_said(joined(" ", [said("full"), "It says so itself."]))
