from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotator.errors import Refusal
from annotator.models import Campaign
from annotator.simulation import GenerationReport, Simulation, clone_for_simulation
from prm_backend.errors import PrmError

COLUMNS = "{:>10} {:>10} {:>10} {:>12} {:>8} {:>10} {:>8}  {}"


class Command(BaseCommand):
    help = (
        "Play a campaign through with labelers who know the answers, in a clone marked simulated, and print how the "
        "PRM does on test problems, generation by generation, beside its baselines."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--campaign", required=True, help="slug of a campaign imported with --labels oracle")
        parser.add_argument("--labelings", type=int, default=300, help="labelings of training problems to simulate")
        parser.add_argument("--retrain-after", type=int, default=50, help="labelings between two retrains")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(slug=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign {options['campaign']}.")
        started = time.monotonic()
        try:
            clone = clone_for_simulation(campaign, retrain_after=options["retrain_after"])
            self.stdout.write(f"Simulating in {clone.slug}; the model is pretrained first, about two minutes.")
            simulation = Simulation(clone)
            reports = self._play(simulation, options["labelings"])
            baselines = simulation.baselines()
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        except PrmError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("\nBaselines on the same test problems:")
        for name, figures in baselines.items():
            self.stdout.write(
                f"{name:>10}  step AUROC {_figure(figures.get('step_auroc'))}  F1 {_figure(figures.get('f1'))}"
            )
        seconds = time.monotonic() - started
        self.stdout.write(f"{seconds:.0f} s in all.")
        if options["json"]:
            rows = {"generations": [asdict(report) for report in reports], "baselines": baselines, "seconds": seconds}
            options["json"].write_text(json.dumps(rows, indent=2) + "\n")

    def _play(self, simulation: Simulation, labelings: int) -> list[GenerationReport]:
        titles = ("generation", "checkpoint", "labelings", "judged steps", "audit", "step AUROC", "F1", "gate")
        self.stdout.write(COLUMNS.format(*titles))
        reports = []
        for report in simulation.play(labelings):
            reports.append(report)
            self.stdout.write(
                COLUMNS.format(
                    report.number,
                    report.checkpoint,
                    report.labelings,
                    report.judged_steps,
                    report.audit_labelings,
                    _figure(report.step_auroc),
                    _figure(report.f1),
                    report.verdict,
                )
            )
        return reports


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
