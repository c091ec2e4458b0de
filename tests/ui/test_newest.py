"""A newer request of a page replaces an older one of its kind."""

import gradio as gr
import pytest

from ddpm_demo.ui import newest
from ddpm_demo.ui.newest import Replaced, answer_newest, begin, end, find, was_replaced
from ddpm_demo.ui.tabs import generate_tab

ME, OTHER = (gr.Request(session_hash=name) for name in ("me", "other"))


@pytest.fixture(autouse=True)
def no_requests(monkeypatch):
    monkeypatch.setattr(newest, "NEWEST", {})


def test_a_request_ends_with_a_newer_one_of_its_kind_and_page():
    answers = answer_newest("film", ME, iter("abc"))
    assert next(answers) == "a"
    with begin("grid", ME), begin("film", OTHER):  # another kind, and another page
        assert next(answers) == "b"
    assert list(answer_newest("film", ME, iter("xy"))) == ["x", "y"]
    with pytest.raises(Replaced):
        next(answers)
    assert newest.NEWEST == {}


def test_a_request_can_be_ended():
    answers = answer_newest("film", ME, iter("abc"))
    assert next(answers) == "a"
    end("film", ME)
    assert find("film", ME) is None
    with pytest.raises(Replaced):
        next(answers)
    end("film", ME)  # there is none any more
    with begin("training", ME, "a drawing") as is_newest:
        end("training", ME, unless="a drawing")
        assert is_newest()
        end("training", ME, unless="another")
        assert not is_newest()


def test_what_a_page_asks_for_is_known_until_it_is_answered():
    with begin("training", ME, "a drawing") as is_newest:
        assert find("training", ME) == "a drawing" and is_newest()
        assert find("training", OTHER) is None
    assert find("training", ME) is None and not is_newest()


def test_only_the_newest_request_shows_an_error():
    def fail():
        yield "a"
        raise gr.Error("too much")

    older = answer_newest("film", ME, fail())
    next(older)
    newer = answer_newest("film", ME, fail())
    next(newer)
    with pytest.raises(Replaced):
        next(older)
    with pytest.raises(gr.Error, match="too much"):
        next(newer)


def test_the_computation_of_a_replaced_request_ends(monkeypatch):
    """Its event counts as replaced until its answers have ended."""
    events = iter(["first", "second"])
    monkeypatch.setattr(newest.LocalContext, "event_id", type("", (), {"get": lambda self, default: next(events)})())
    older, newer = (answer_newest("film", ME, iter("ab")) for _ in range(2))
    next(older), next(newer)
    assert was_replaced("first") and not was_replaced("second")
    with pytest.raises(Replaced):
        next(older)
    assert not was_replaced("first")


def test_few_requests_are_kept(monkeypatch):
    monkeypatch.setattr(newest, "MOST", 3)
    running = [answer_newest("film", gr.Request(session_hash="x" * 1000 + str(k)), iter("ab")) for k in range(4)]
    for answers in running:
        next(answers)
    assert len(newest.NEWEST) == 3 and all(isinstance(page, int) for _, page in newest.NEWEST)
    with pytest.raises(Replaced):
        next(running[0])
    assert next(running[1]) == "b"


def test_an_error_in_mid_run_frees_the_buttons(catalogue, monkeypatch):
    def break_off(run):
        yield {"run": "1"}
        raise gr.Error("too much")

    monkeypatch.setattr(generate_tab, "film", break_off)
    answers = generate_tab.watch(catalogue, {"steps": 3})
    assert next(answers)[0] == [{"run": "1"}]
    assert next(answers) == (gr.skip(), *generate_tab.reset_buttons())
    with pytest.raises(gr.Error, match="too much"):
        next(answers)
