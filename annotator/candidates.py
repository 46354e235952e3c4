"""Where a campaign's candidates come from: the import, or a model behind the operator's endpoint. The operator chooses
the address, a manager only the model's name there, so that no manager can make the site call addresses of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from django.conf import settings

from annotator.models import Campaign
from prm_backend.errors import EndpointError


@dataclass(frozen=True, slots=True)
class Wanted:
    """At most `count` candidates for the step after `steps`; or, where there is a `wrong_step`, critiques of it."""

    problem: str
    steps: tuple[str, ...]
    count: int
    seed: int
    wrong_step: str | None = None


class Candidates(Protocol):
    """A source. Where it `can_be_asked`, a worker fetches what is missing while somebody labels."""

    can_be_asked: bool

    def fetch(self, wanted: Wanted) -> list[str]:
        """At most `wanted.count` distinct texts; takes up to CANDIDATE_TIMEOUT_SECONDS. Raises `EndpointError`."""


@dataclass(frozen=True, slots=True)
class ImportedCandidates:
    """All there is came with the import: there is nothing to wait for."""

    can_be_asked: bool = False

    def fetch(self, wanted: Wanted) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class EndpointCandidates:
    model: str
    can_be_asked: bool = True

    def fetch(self, wanted: Wanted) -> list[str]:
        if not settings.CANDIDATE_ENDPOINT_URL:
            raise EndpointError("The operator has set no model endpoint for candidates.", permanent=True)
        if not self.model:
            raise EndpointError("The campaign names no model for candidates.", permanent=True)
        # Only workers get here; a web process has no use for an HTTP client.
        from prm_backend.sampling import EndpointSource

        source = EndpointSource(
            settings.CANDIDATE_ENDPOINT_URL,
            self.model,
            api_key=_key(),
            total_seconds=settings.CANDIDATE_TIMEOUT_SECONDS,
        )
        if wanted.wrong_step is None:
            return source.next_steps(wanted.problem, wanted.steps, count=wanted.count, seed=wanted.seed)
        return source.critiques(wanted.problem, wanted.steps, wanted.wrong_step, count=wanted.count, seed=wanted.seed)


def _key() -> str:
    """The key, read for each call where it lies in a file: it may be renewed there."""
    if not settings.CANDIDATE_ENDPOINT_KEY_FILE:
        return str(settings.CANDIDATE_ENDPOINT_KEY)
    try:
        return Path(settings.CANDIDATE_ENDPOINT_KEY_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(
            "The worker cannot read the key of the model endpoint.", permanent=True, detail=str(error)
        ) from error


def source_of(campaign: Campaign) -> ImportedCandidates | EndpointCandidates:
    if campaign.candidate_source == Campaign.CandidateSource.ENDPOINT:
        return EndpointCandidates(campaign.candidate_model)
    return ImportedCandidates()
