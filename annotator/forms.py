"""What people type, checked field by field before an action sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from annotator.models import Campaign, Guideline, ImportRun, Membership
from annotator.queries.guideline import PARTS, RatingWords, rating_words
from prm_backend.formats import FORMATS
from prm_backend.policy import STRATEGIES, PolicyError, parse_policy

# The settings that mean something in one phase only.
PROTOCOL_FIELDS: dict[int, list[str]] = {
    Campaign.Phase.JUDGE: ["scope", "target_steps", "progress", "critiques", "alternatives"],
    Campaign.Phase.CHOOSE: ["candidates_shown", "always_grid", "continue_by"],
}
STRATEGY_LABELS = {
    "uncertainty": _("Uncertainty"),
    "margin": _("Margin"),
    "disagreement": _("Disagreement"),
    "convincing_wrong_answer": _("Convincing wrong answer"),
}


# Django's forms are generic for the type checker alone.
if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Campaign]
    MembershipChoiceField = forms.ModelChoiceField[Membership]
else:
    ModelForm, MembershipChoiceField = forms.ModelForm, forms.ModelChoiceField


class CampaignForm(ModelForm):
    """A campaign's settings. The selection policy is one number for each strategy, in per cent. What means nothing in
    the campaign's phase is not asked."""

    random_share = forms.IntegerField(
        label=_("Random arm"),
        min_value=0,
        max_value=100,
        help_text=_("Per cent of each generation drawn at random: what shows whether the rest helps."),
    )
    per_problem = forms.IntegerField(label=_("Solutions of one problem in a generation"), min_value=1, max_value=100)

    class Meta:
        model = Campaign
        fields = [
            "name",
            "domain",
            *PROTOCOL_FIELDS[Campaign.Phase.JUDGE],
            *PROTOCOL_FIELDS[Campaign.Phase.CHOOSE],
            "candidate_source",
            "candidate_model",
            "show_reference_answer",
            "labelings_wanted",
            "spread_problems",
            "lease_minutes",
            "idle_minutes",
            "correction_hours",
            "show_pace",
            "generation_size",
            "audit_per_generation",
            "retrain_after",
            "gate_policy",
        ]
        labels = {
            "scope": _("What is judged"),
            "target_steps": _("Steps asked of a solution"),
            "progress": _("How far the solution had come"),
            "critiques": _("What went wrong"),
            "alternatives": _("Other next steps"),
            "always_grid": _("Show all candidates of a step at once"),
            "continue_by": _("Of several good candidates"),
            "candidates_shown": _("Candidates at a step, at most"),
            "candidate_source": _("Candidates come from"),
            "candidate_model": _("Model at the endpoint"),
            "show_reference_answer": _("Show the reference answer to labelers"),
            "labelings_wanted": _("Labelings per solution"),
            "spread_problems": _("Spread a problem's solutions over labelers"),
            "lease_minutes": _("Lease, in minutes"),
            "idle_minutes": _("Thinking time, in minutes"),
            "correction_hours": _("Corrections, in hours"),
            "show_pace": _("Show labelers their pace while they label"),
            "generation_size": _("Solutions in a generation"),
            "audit_per_generation": _("Audit solutions in a generation"),
            "retrain_after": _("Retrain after"),
            "gate_policy": _("Gate"),
        }
        help_texts = {
            "target_steps": _("Only where the selected steps are judged."),
            "progress": _("A short scale: none, a little, most of the way, nearly there."),
            "critiques": _("Rate the critiques that came with the step, or write one."),
            "alternatives": _("Rate the other candidates for the step that failed, where there are any."),
            "always_grid": _("Otherwise one is shown first; a + goes on at once, 0 or − opens the others."),
            "continue_by": _("Which of them the solution goes on with."),
            "candidates_shown": "",
            "candidate_source": _("A model writes them while people label; what was imported is used first."),
            "candidate_model": _("The model's name at the endpoint that the operator has set up."),
            "labelings_wanted": _("By as many different people. A change re-opens or closes what is in the queue."),
            "spread_problems": _("Where there is a choice, nobody gets two solutions of one problem."),
            "lease_minutes": _("How long a solution stays with somebody who does nothing."),
            "idle_minutes": _("How long reading without a key counts as work before the page asks once."),
            "correction_hours": _("How long a labeler may correct what they submitted; 0 for not at all."),
            "show_pace": _("They always see it on their own page."),
        }
        widgets = {
            "gate_policy": forms.RadioSelect,
            "scope": forms.RadioSelect,
            "continue_by": forms.RadioSelect,
            "candidate_source": forms.RadioSelect,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._keep_what_is_asked()
        policy = parse_policy(self.instance.selection_policy)
        self.fields["random_share"].initial = round(policy.random_share * 100)
        self.fields["per_problem"].initial = policy.per_problem
        for name, about in STRATEGIES.items():
            self.fields[f"strategy_{name}"] = forms.IntegerField(
                label=STRATEGY_LABELS.get(name, name),
                min_value=0,
                max_value=100,
                help_text=about[:1].upper() + about[1:] + ".",
                initial=round(policy.strategies.get(name, 0) * 100),
            )

    def _keep_what_is_asked(self) -> None:
        """A new campaign's phase is being chosen on the same form, so both phases' settings stand there."""
        if not settings.CANDIDATE_ENDPOINT_URL and self.instance.candidate_source != Campaign.CandidateSource.ENDPOINT:
            del self.fields["candidate_source"], self.fields["candidate_model"]
        if "phase" in self.fields:
            return
        for phase, names in PROTOCOL_FIELDS.items():
            for name in names if phase != self.instance.phase else ():
                del self.fields[name]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        from_endpoint = cleaned.get("candidate_source") == Campaign.CandidateSource.ENDPOINT
        if from_endpoint and not cleaned.get("candidate_model", "").strip():
            self.add_error("candidate_model", _("Name the model that is to write candidates."))
        if cleaned.get("phase") == Campaign.Phase.CHOOSE:
            cleaned["scope"] = Campaign.Scope.WHOLE
        if not self.errors:
            cleaned["selection_policy"] = self._policy(cleaned)
        return cleaned

    def _policy(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        weights = {name: cleaned[f"strategy_{name}"] for name in STRATEGIES if cleaned[f"strategy_{name}"]}
        if not weights and cleaned["random_share"] < 100:
            raise ValidationError(_("Give at least one strategy a share, or draw 100 % at random."))
        if weights and sum(weights.values()) != 100:
            raise ValidationError(
                _("The strategies share out 100 %%; these add up to %(total)s %%."),
                params={"total": sum(weights.values())},
            )
        policy = {
            "random_share": cleaned["random_share"] / 100,
            "strategies": {name: weight / 100 for name, weight in weights.items()},
            "per_problem": cleaned["per_problem"],
        }
        try:
            parse_policy(policy)
        except PolicyError as error:
            raise ValidationError(str(error)) from error
        return policy

    def values(self) -> dict[str, Any]:
        """The campaign's own columns, for an action."""
        own = {field.name for field in Campaign._meta.concrete_fields}
        return {name: value for name, value in self.cleaned_data.items() if name in own}

    @property
    def groups(self) -> list[tuple[str, Any, Any, list[Any]]]:
        """The fields as the page sets them: a name for the style sheet, a heading, a hint or "", the fields. Groups
        without fields are left out."""
        selection = ["random_share", *(f"strategy_{name}" for name in STRATEGIES), "per_problem"]
        named = [
            ("campaign", _("Campaign"), "", ["slug", "name", "domain"]),
            ("protocol", _("Protocol"), "", ["phase"]),
            (
                "phase-2",
                _("Phase 2"),
                _("Steps of a ready solution are rated up to the first bad one; after it, more can be asked."),
                PROTOCOL_FIELDS[Campaign.Phase.JUDGE],
            ),
            (
                "phase-1",
                _("Phase 1"),
                _("Candidates for each next step are rated, and one of the good ones goes on."),
                PROTOCOL_FIELDS[Campaign.Phase.CHOOSE],
            ),
            ("candidates", _("Candidates"), "", ["candidate_source", "candidate_model"]),
            ("labeling", _("Labeling"), "", ["labelings_wanted", "spread_problems", "show_reference_answer"]),
            ("time", _("Time"), "", ["lease_minutes", "idle_minutes", "correction_hours", "show_pace"]),
            ("generations", _("Generations"), "", ["generation_size", "audit_per_generation"]),
            (
                "selection",
                _("Selection"),
                _("The strategies share out what is not drawn at random; together 100 %."),
                selection,
            ),
            ("retraining", _("Retraining"), "", ["backbone", "retrain_after", "gate_policy"]),
        ]
        asked = [
            (name, title, hint, [self[field] for field in fields if field in self.fields])
            for name, title, hint, fields in named
        ]
        return [group for group in asked if group[3]]


class NewCampaignForm(CampaignForm):
    class Meta(CampaignForm.Meta):
        fields = ["slug", "phase", *CampaignForm.Meta.fields, "backbone"]
        labels = {
            **CampaignForm.Meta.labels,
            "slug": _("Short name"),
            "phase": _("What labelers do"),
            "backbone": _("Backbone"),
        }
        help_texts = {
            **CampaignForm.Meta.help_texts,
            "slug": _("Stands in addresses and file names; letters, digits, hyphens and underscores."),
            "phase": _("Cannot be changed later."),
        }
        error_messages = {"slug": {"invalid": _("Use letters, digits, hyphens and underscores only.")}}
        widgets = {**CampaignForm.Meta.widgets, "phase": forms.RadioSelect}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["slug"].widget.attrs["placeholder"] = "algebra-2"


class GuidelineForm(forms.Form):
    """A new version: the text, and for each rating its word, its meaning and an example."""

    text = forms.CharField(label=_("Guideline, in Markdown"), widget=forms.Textarea({"rows": 20}), max_length=100_000)

    def __init__(self, *args: Any, guideline: Guideline | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["text"].initial = guideline.text if guideline else ""
        self.ratings = rating_words(guideline)
        for row in self.ratings:
            self.fields[f"word_{row.value}"] = forms.CharField(label=_("Word"), max_length=20, initial=row.word)
            self.fields[f"meaning_{row.value}"] = forms.CharField(
                label=_("Meaning"), max_length=200, initial=row.meaning
            )
            self.fields[f"example_{row.value}"] = forms.CharField(
                label=_("Example"), max_length=500, required=False, initial=row.example
            )

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
        return text.replace("\r\n", "\n")

    def words(self) -> dict[str, dict[str, str]]:
        """As `Guideline.words` holds them."""
        return {
            str(row.value): {part: self.cleaned_data[f"{part}_{row.value}"] for part in PARTS} for row in self.ratings
        }

    @property
    def rating_fields(self) -> list[tuple[RatingWords, list[Any]]]:
        return [(row, [self[f"{part}_{row.value}"] for part in PARTS]) for row in self.ratings]


class ReportForm(forms.Form):
    """What becomes of a report, and what its labeler is told."""

    do = forms.ChoiceField(choices=[(name, name) for name in ("close", "release", "keep_out", "correct", "return")])
    answer = forms.CharField(required=False, max_length=2000)
    corrected = forms.CharField(required=False, max_length=1000)


class MemberChoiceField(MembershipChoiceField):
    def label_from_instance(self, obj: Membership) -> str:
        return obj.user.username


class MessageForm(forms.Form):
    to = MemberChoiceField(
        label=_("To"), queryset=Membership.objects.none(), required=False, empty_label=_("All labelers")
    )
    text = forms.CharField(label=_("Message"), max_length=2000, widget=forms.Textarea({"rows": 3}))

    def __init__(self, *args: Any, campaign: Campaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        to = self.fields["to"]
        assert isinstance(to, MemberChoiceField)
        to.queryset = campaign.memberships.select_related("user").order_by("user__username")


class MemberForm(forms.Form):
    username = forms.CharField(label=_("User name"), max_length=150, widget=forms.TextInput({"autocomplete": "off"}))
    email = forms.EmailField(label=_("E-mail"), widget=forms.EmailInput({"autocomplete": "off"}))
    role = forms.ChoiceField(label=_("Role"), choices=Membership.Role.choices)


class MemberStateForm(forms.Form):
    state = forms.ChoiceField(choices=Membership.State.choices)
    reason = forms.CharField(required=False, max_length=200)


class ImportForm(forms.Form):
    file = forms.FileField(label=_("File"), help_text=_("JSON Lines: one solution in each line."))
    format = forms.ChoiceField(
        label=_("Format"),
        choices=[("auto", _("Recognise it")), *((name, known.about) for name, known in FORMATS.items() if known.parse)],
    )
    labels = forms.ChoiceField(
        label=_("Its labels"),
        required=False,
        choices=[("", _("As usual for its format")), *ImportRun.Labels.choices],
        help_text=_("Usual: labelings for PRM800K; else left out."),
    )

    def clean_file(self) -> UploadedFile[Any]:
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if file.size and file.size > settings.MAX_UPLOAD_BYTES:
            raise ValidationError(
                _("This file is larger than %(most)s; import it with manage.py import_solutions."),
                params={"most": filesizeformat(settings.MAX_UPLOAD_BYTES)},
            )
        return file
