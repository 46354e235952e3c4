from __future__ import annotations

from collections.abc import Callable

import pytest

from annotator.actions.campaigns import acknowledge_guideline, publish_guideline
from annotator.actions.people import add_member
from annotator.errors import Conflict
from annotator.models import Campaign, Guideline
from annotator.queries.guideline import rating_words
from annotator.views.guidelines import guideline_diff
from tests.annotator.cast import Role
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]
WORDS = {
    "word_-1": "wrong",
    "meaning_-1": "a mistake",
    "example_-1": "1 + 1 = 3",
    "word_0": "idle",
    "meaning_0": "leads nowhere",
    "example_0": "",
    "word_1": "right",
    "meaning_1": "a step forward",
    "example_1": "1 + 1 = 2",
}


def test_a_change_is_a_new_version_in_force(cast: Cast, url: Url) -> None:
    posted = cast.manager.post(url("guideline/"), {"text": "# Be *kind*\r\n\r\nand exact.", **WORDS})
    assert posted["Location"] == url("guideline/")
    assert Guideline.objects.filter(campaign=cast.campaign).count() == 2
    in_force = Campaign.objects.get(slug="algebra").guideline
    assert in_force is not None
    assert (in_force.version, in_force.text) == (2, "# Be *kind*\n\nand exact.")
    body = cast.labeler.get(url("guideline/")).content.decode()
    assert "<h1>Be <em>kind</em></h1>" in body
    assert "How to rate a step" in cast.labeler.get(url("guideline/?version=1")).content.decode()


def test_words_for_the_ratings_are_versioned_with_the_text(cast: Cast, url: Url) -> None:
    cast.manager.post(url("guideline/"), {"text": "Be kind.", **WORDS})
    new, old = Guideline.objects.filter(campaign=cast.campaign)
    assert [(row.sign, row.word, row.meaning) for row in rating_words(new)] == [
        ("−", "wrong", "a mistake"),
        ("0", "idle", "leads nowhere"),
        ("+", "right", "a step forward"),
    ]
    assert [row.word for row in rating_words(old)] == ["bad", "neutral", "good"]
    body = cast.labeler.get(url("guideline/")).content.decode()
    assert "leads nowhere" in body
    assert "1 + 1 = 3" in body


def test_publishing_what_is_in_force_is_no_new_version(cast: Cast, url: Url) -> None:
    cast.manager.post(url("guideline/"), {"text": "Be kind.", **WORDS})
    cast.manager.post(url("guideline/"), {"text": "Be kind.", **WORDS})
    assert Guideline.objects.filter(campaign=cast.campaign).count() == 2
    cast.manager.post(url("guideline/"), {"text": "Be kind.", **WORDS, "word_0": "lukewarm"})
    assert Guideline.objects.filter(campaign=cast.campaign).count() == 3


def test_a_guideline_cannot_smuggle_html_or_links(cast: Cast, url: Url) -> None:
    text = "<script>alert(1)</script> [click](javascript:alert(1)) ![x](http://example.org/x.png) <b>bold</b>"
    cast.manager.post(url("guideline/"), {"text": text, **WORDS, "meaning_0": "<img src=x>"})
    page = cast.labeler.get(url("guideline/")).content.decode()
    body = page.partition("<article")[2].partition("</article>")[0]
    assert "&lt;script&gt;" in body
    for tag in ("<script", "<a ", "<img", "<b>"):
        assert tag not in body
    assert "&lt;img src=x&gt;" in page


@pytest.mark.parametrize("missing", ["text", "word_0", "meaning_-1"])
def test_what_is_left_out_is_asked_for(cast: Cast, url: Url, missing: str) -> None:
    response = cast.manager.post(url("guideline/"), {"text": "Be kind.", **WORDS, missing: "  "})
    assert response.status_code == 400
    assert "This field is required" in response.content.decode()


def test_newcomers_start_with_the_version_in_force(cast: Cast) -> None:
    manager = cast.members["manager"].user
    published = publish_guideline(cast.campaign, actor=manager, text="Be kind.")
    added, _ = add_member(cast.campaign, actor=manager, username="sofia", email="sofia@example.org", role=Role.LABELER)
    assert added.guideline == published


def test_a_labeler_acknowledges_the_version_in_force_and_no_other(cast: Cast) -> None:
    labeler, manager = cast.members["labeler"], cast.members["manager"].user
    publish_guideline(cast.campaign, actor=manager, text="Be kind.")
    publish_guideline(cast.campaign, actor=manager, text="Be very kind.")
    with pytest.raises(Conflict) as refused:
        acknowledge_guideline(labeler, 2)
    assert refused.value.code == "old_version"
    acknowledge_guideline(labeler, 3)
    labeler.refresh_from_db()
    assert labeler.guideline is not None
    assert labeler.guideline.version == 3


# --- What changed ----------------------------------------------------------------------------------------------------


def versions(cast: Cast, old: str, new: str) -> tuple[Guideline, Guideline]:
    manager = cast.members["manager"].user
    return (
        publish_guideline(cast.campaign, actor=manager, text=old),
        publish_guideline(cast.campaign, actor=manager, text=new),
    )


def test_a_difference_names_the_words_that_changed_and_only_these(cast: Cast) -> None:
    old, new = versions(cast, "Rate each step in half a minute.", "Rate each step in one minute.")
    diff = guideline_diff(old, new)
    assert "Rate each step in <del>" in diff
    assert ">half a<" in without_spoken(diff)
    assert ">one<" in without_spoken(diff)
    assert diff.count("<del>") == diff.count("<ins>") == 1


def test_a_difference_is_spoken(cast: Cast) -> None:
    old, new = versions(cast, "Rate each step in half a minute.", "Rate each step in one minute.")
    diff = guideline_diff(old, new)
    assert '<del><span class="visually-hidden"> deleted: </span>half a' in diff
    assert '<ins><span class="visually-hidden"> added: </span>one' in diff


def test_a_difference_leaves_out_long_unchanged_parts(cast: Cast) -> None:
    lines = [f"Rule {number}." for number in range(20)]
    old, new = versions(cast, "\n\n".join(lines), "\n\n".join([*lines[:10], "A new rule.", *lines[10:]]))
    diff = without_spoken(guideline_diff(old, new))
    assert "<ins>A new rule.</ins>" in diff
    assert "Rule 9." in diff
    assert "Rule 3." not in diff
    assert "⋯" in diff


def test_lines_that_markdown_reads_as_one_paragraph_are_compared_as_one(cast: Cast) -> None:
    old, new = versions(
        cast, "# Rating\nRate each\nstep.\n- One.\n- Two.", "# Rating\nRate\neach step.\n- One.\n- Three."
    )
    diff = without_spoken(guideline_diff(old, new))
    assert "<p>Rate each step.</p>" in diff
    assert "<p>- <del>Two</del><ins>Three</ins>.</p>" in diff


def test_a_difference_shows_changed_words_for_ratings(cast: Cast) -> None:
    manager = cast.members["manager"].user
    old = publish_guideline(cast.campaign, actor=manager, text="Be kind.")
    words = {**old.words, "0": {**old.words["0"], "word": "lukewarm"}}
    new = publish_guideline(cast.campaign, actor=manager, text="Be kind.", words=words)
    assert "<del>neutral</del><ins>lukewarm</ins>:" in without_spoken(guideline_diff(old, new))


def test_a_difference_cannot_smuggle_html(cast: Cast) -> None:
    old, new = versions(cast, "<script>alert(1)</script> a b c", "<script>alert(2)</script> a b c\n<img src=x>")
    diff = guideline_diff(old, new)
    assert "<script" not in diff
    assert "<img" not in diff
    assert "<del>1</del><ins>2</ins>)&lt;/script&gt; a b c" in without_spoken(diff)


def test_the_page_compares_two_versions(cast: Cast, url: Url) -> None:
    versions(cast, "Rate fast.", "Rate slowly.")
    body = cast.labeler.get(url("guideline/?since=2&version=3")).content.decode()
    assert "What changed from version 2 to 3" in body
    assert "slowly" in body.partition('class="diff"')[2]
    assert "What changed from version" not in cast.labeler.get(url("guideline/?since=3&version=3")).content.decode()
    assert cast.labeler.get(url("guideline/?since=nonsense&version=99")).status_code == 200


def without_spoken(html: str) -> str:
    for words in (" deleted: ", " added: ", ", "):
        html = html.replace(f'<span class="visually-hidden">{words}</span>', "")
    return html
