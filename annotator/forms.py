"""What people type, checked field by field before an action sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from annotator.models import Campaign, ImportRun, Membership
from prm_backend.formats import FORMATS
from prm_backend.policy import STRATEGIES, PolicyError, parse_policy

# Generic for the type checker only.
if TYPE_CHECKING:
    CampaignModelForm = forms.ModelForm[Campaign]
else:
    CampaignModelForm = forms.ModelForm

STRATEGY_LABELS = {
    "uncertainty": _("Uncertainty"),
    "margin": _("Margin"),
    "disagreement": _("Disagreement"),
    "convincing_wrong_answer": _("Convincing wrong answer"),
}


# Django's forms are generic for the type checker alone.
if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Campaign]
else:
    ModelForm = forms.ModelForm


class CampaignForm(ModelForm):
    """A campaign's settings. The selection policy is one number for each strategy, in per cent."""

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
            "labelings_wanted",
            "lease_minutes",
            "show_reference_answer",
            "generation_size",
            "audit_per_generation",
            "retrain_after",
            "gate_policy",
        ]
        labels = {
            "labelings_wanted": _("Labelings per solution"),
            "lease_minutes": _("Lease, in minutes"),
            "show_reference_answer": _("Show the reference answer to labelers"),
            "generation_size": _("Solutions in a generation"),
            "audit_per_generation": _("Audit solutions in a generation"),
            "retrain_after": _("Retrain after"),
            "gate_policy": _("Gate"),
        }
        widgets = {"gate_policy": forms.RadioSelect}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
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
    def groups(self) -> list[tuple[Any, Any, list[Any]]]:
        """The fields as the page sets them: a heading, a hint or "", the fields."""
        selection = ["random_share", *(f"strategy_{name}" for name in STRATEGIES), "per_problem"]
        named = [
            (_("Campaign"), "", [*(["slug"] if "slug" in self.fields else []), "name", "domain"]),
            (_("Labeling"), "", ["labelings_wanted", "lease_minutes", "show_reference_answer"]),
            (_("Generations"), "", ["generation_size", "audit_per_generation"]),
            (_("Selection"), _("The strategies share out what is not drawn at random; together 100 %."), selection),
            (
                _("Retraining"),
                "",
                [*(["backbone"] if "backbone" in self.fields else []), "retrain_after", "gate_policy"],
            ),
        ]
        return [(title, hint, [self[name] for name in names]) for title, hint, names in named]


class NewCampaignForm(CampaignForm):
    class Meta(CampaignForm.Meta):
        fields = ["slug", *CampaignForm.Meta.fields, "backbone"]
        labels = {**CampaignForm.Meta.labels, "slug": _("Short name"), "backbone": _("Backbone")}
        help_texts = {"slug": _("Stands in addresses and file names; letters, digits, hyphens and underscores.")}
        error_messages = {"slug": {"invalid": _("Use letters, digits, hyphens and underscores only.")}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["slug"].widget.attrs["placeholder"] = "algebra-2"


class GuidelineForm(forms.Form):
    text = forms.CharField(label=_("Guideline, in Markdown"), widget=forms.Textarea({"rows": 24}), max_length=100_000)


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
