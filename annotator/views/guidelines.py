"""The guideline: read by everybody, changed by managers, and what changed from one version to another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotator.access import access_membership
from annotator.actions.campaigns import publish_guideline
from annotator.forms import GuidelineForm
from annotator.models import Guideline
from annotator.queries.guideline import rating_words
from annotator.views.pages import PageRequest, Role, page, show

# Unchanged paragraphs shown around a change.
CONTEXT = 2
# What begins a block of its own in Markdown, so that it does not go on with the line above.
BLOCK_START = re.compile(r"\s*([#>|`~]|[-+*]\s|\d+[.)]\s)")
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def guideline(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    """Everybody reads it; a manager's change is a new version. `?version=` shows an earlier one, `&since=` what changed
    from another one to it."""
    roles = [Role.MANAGER] if request.method == "POST" else []
    membership = access_membership(request.user, slug, *roles)
    versions = list(Guideline.objects.filter(campaign=membership.campaign).select_related("author"))
    in_force = versions[0] if versions else None
    form = GuidelineForm(request.POST or None, guideline=in_force)
    if request.method == "POST" and form.is_valid():
        published = publish_guideline(
            membership.campaign, actor=request.user, text=form.cleaned_data["text"], words=form.words()
        )
        messages.success(request, _("Version %(version)s is what labelers read now.") % {"version": published.version})
        return redirect("guideline", slug)
    current = _version(versions, request.GET.get("version", "")) or in_force
    since = _version(versions, request.GET.get("since", ""))
    context = {
        "guideline": current,
        "since": since if since != current else None,
        "diff": guideline_diff(since, current) if since and current and since != current else "",
        "words": rating_words(current),
        "versions": versions,
        "form": form,
        "editing": membership.role == Role.MANAGER and ("edit" in request.GET or form.errors),
    }
    return show(
        request, membership, "campaign/guideline.html", "guideline", context, status=400 if form.errors else 200
    )


def _version(versions: Sequence[Guideline], asked: str) -> Guideline | None:
    return next((row for row in versions if str(row.version) == asked), None)


def guideline_diff(old: Guideline, new: Guideline) -> SafeString:
    """What changed, line by line and within a line word by word, as `<ins>` and `<del>` that screen readers announce.
    Runs of unchanged lines are left out."""
    before, after = _lines(old), _lines(new)
    changes = SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT)
    parts: list[SafeString] = []
    for group in changes:
        if parts or group[0][1]:
            parts.append(format_html('<p class="diff-gap" aria-label="{}">⋯</p>', _("Unchanged lines left out")))
        for tag, i1, i2, j1, j2 in group:
            parts += _lines_of(tag, before[i1:i2], after[j1:j2])
    if not parts:
        return format_html('<p class="muted">{}</p>', _("Nothing has changed."))
    return format_html('<div class="diff">{}</div>', format_html_join("", "{}", ((part,) for part in parts)))


def _lines(guideline: Guideline) -> list[str]:
    """The text paragraph by paragraph, as Markdown reads it, with the words for the ratings below it."""
    lines: list[str] = []
    goes_on = False
    for line in guideline.text.splitlines():
        if goes_on and line.strip() and not BLOCK_START.match(line):
            lines[-1] = f"{lines[-1]} {line.strip()}"
        elif line.strip():
            lines.append(line.rstrip())
        goes_on = bool(line.strip()) and not line.startswith("#")
    words = [f"{row.sign} {row.word}: {row.meaning}. {row.example}".strip() for row in rating_words(guideline)]
    return lines + words


def _lines_of(tag: str, before: Sequence[str], after: Sequence[str]) -> list[SafeString]:
    if tag == "equal":
        return [_paragraph(format_html("{}", line)) for line in before]
    paired = min(len(before), len(after))
    lines = [_paragraph(_words(old, new)) for old, new in zip(before, after, strict=False)]
    lines += [_paragraph(_deleted(line)) for line in before[paired:]]
    lines += [_paragraph(_inserted(line)) for line in after[paired:]]
    return lines


def _words(old: str, new: str) -> SafeString:
    """Both lines in one, word by word; lines with little in common one after the other."""
    before, after = TOKEN.findall(old), TOKEN.findall(new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    if matcher.ratio() < 0.5:
        return format_html("{} {}", _deleted(old), _inserted(new))
    parts: list[SafeString] = []
    gone = come = ""
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        same = "".join(before[i1:i2])
        if tag == "equal" and (same.strip() or not (gone or come)):
            parts += [*_changed(gone, come), format_html("{}", same)]
            gone = come = ""
        else:  # a space between two changes belongs to them
            gone, come = gone + same, come + "".join(after[j1:j2])
    return format_html_join("", "{}", ((part,) for part in [*parts, *_changed(gone, come)]))


def _changed(gone: str, come: str) -> list[SafeString]:
    return [mark(text) for mark, text in ((_deleted, gone), (_inserted, come)) if text.strip()]


def _paragraph(content: SafeString) -> SafeString:
    return format_html("<p>{}</p>", content)


def _deleted(text: str) -> SafeString:
    return _marked("del", text, _("deleted:"))


def _inserted(text: str) -> SafeString:
    return _marked("ins", text, _("added:"))


def _marked(tag: str, text: str, spoken: str) -> SafeString:
    """White space at both ends stays outside the mark."""
    words = text.strip()
    start = text.index(words)
    return format_html(
        '{3}<{0}><span class="visually-hidden"> {1} </span>{2}<span class="visually-hidden">, </span></{0}>{4}',
        tag,
        spoken,
        words,
        text[:start],
        text[start + len(words) :],
    )
