"""Small words of the templates: times, figures, rating shapes, the sentence that says why an item was selected."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Literal

from django import template
from django.contrib.humanize.templatetags.humanize import naturaltime, ordinal
from django.template.defaultfilters import date as format_date
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from markdown_it import MarkdownIt

from annotator.models import Labeling, QueueItem

register = template.Library()

# Without raw HTML and without links: a guideline is text for people who are about to type a password elsewhere too.
MARKDOWN = (
    MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "autolink", "image", "html_inline"])
)

RATING_WORDS = {
    -1: ("bad", gettext_lazy("bad")),
    0: ("neutral", gettext_lazy("neutral")),
    1: ("good", gettext_lazy("good")),
}
STRATEGY_WORDS = {
    "uncertainty": gettext_lazy("uncertainty"),
    "margin": gettext_lazy("margin"),
    "disagreement": gettext_lazy("disagreement"),
    "convincing_wrong_answer": gettext_lazy("convincing wrong answer"),
}


@register.filter
def markdown(text: str) -> SafeString:
    html: str = MARKDOWN.render(text)
    return mark_safe(html)  # noqa: S308  # raw HTML is off, and the renderer escapes everything else


@register.simple_tag
def when(moment: datetime.datetime | None) -> SafeString | str:
    """A relative time with the exact one on hover."""
    if moment is None:
        return "–"
    exact = format_date(moment.astimezone(datetime.UTC), "Y-m-d H:i")
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', moment.isoformat(), exact, naturaltime(moment))


@register.simple_tag
def mark(value: int | None, *, not_bad: bool = False, decorative: bool = False) -> SafeString:
    """The shape of a rating, with its word for screen readers; without one where the word stands beside it."""
    if decorative and value is not None:
        return format_html('<span class="mark mark-{}" aria-hidden="true"></span>', RATING_WORDS[value][0])
    if not_bad:
        return format_html('<span class="mark mark-open" role="img" aria-label="{0}" title="{0}"></span>', _("not bad"))
    if value is None:
        return format_html(
            '<span class="mark mark-none" role="img" aria-label="{0}" title="{0}"></span>', _("not rated")
        )
    name, word = RATING_WORDS[value]
    return format_html('<span class="mark mark-{}" role="img" aria-label="{}" title="{}"></span>', name, word, word)


# What a template could not look up arrives as "", what could not be measured as None: both are a dash.
Number = float | int | None | Literal[""]


@register.filter
def percent(value: Number, digits: int = 0) -> str:
    return "–" if value is None or value == "" else f"{100 * value:.{digits}f} %"


@register.filter
def figure(value: Number, digits: int = 3) -> str:
    return "–" if value is None or value == "" else f"{value:.{digits}f}"


@register.filter
def signed(value: Number) -> str:
    return "–" if value is None or value == "" else f"{value:+.3f}".replace("-", "−")


@register.filter
def seconds(value: Number) -> str:
    if value is None or value == "":
        return "–"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"


@register.filter
def milliseconds(value: Number) -> str:
    return seconds(None if value is None or value == "" else value / 1000)


@register.filter
def hours(value: Number) -> str:
    """Working time, in seconds, to the minute."""
    if value is None or value == "":
        return "–"
    whole, minutes = divmod(round(value / 60), 60)
    return f"{whole} h {minutes} min" if whole else f"{minutes} min"


@register.filter
def get(mapping: dict[str, Any], key: str) -> Any:
    return mapping.get(key)


@register.filter
def get_at(rows: Sequence[Any], index: int) -> Any:
    return rows[index]


@register.filter
def strategy(name: str) -> str:
    return str(STRATEGY_WORDS.get(name, name))


@register.filter
def why(item: QueueItem) -> str:
    """Why this item, in one sentence. Needs `pick` and `picks` (`ranked_items`)."""
    return why_selected(item, item.pick, item.picks)  # type: ignore[attr-defined]  # annotations


def why_selected(item: QueueItem, place: int, picks: int) -> str:
    if item.arm == QueueItem.Arm.AUDIT:
        return _("audit stream, next in the seeded draw; probability %(p)s") % {
            "p": percent(item.inclusion_probability, 1)
        }
    if item.arm == QueueItem.Arm.RANDOM:
        return _("random arm, drawn from the whole pool; probability %(p)s") % {
            "p": percent(item.inclusion_probability, 1)
        }
    checkpoint = item.generation.checkpoint
    return _("%(strategy)s %(score)s, %(place)s of %(picks)s picks, active arm, checkpoint %(checkpoint)s") % {
        "strategy": strategy(item.strategy),
        "score": figure(item.score, 2),
        "place": ordinal(place),
        "picks": picks,
        "checkpoint": checkpoint.number if checkpoint else "–",
    }


@register.filter
def outcome(labeling: Labeling) -> str:
    """What a labeling ended as, in a few words."""
    if labeling.finish_reason == "found_error":
        bad = next((rating.step_index for rating in labeling.ratings.all() if rating.value == -1), None)
        return _("first error at step %(step)s") % {"step": "?" if bad is None else bad + 1}
    return {
        "solution": _("no error"),
        "give_up": _("given up"),
        "bad_problem": _("bad problem"),
        "": _("the steps asked about"),
    }.get(labeling.finish_reason, labeling.finish_reason)
