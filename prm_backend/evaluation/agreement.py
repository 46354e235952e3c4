"""Agreement of a PRM with people beyond chance (Cohen's kappa), on −, 0, + and on bad against not bad."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.bootstrap import Statistic, of_sums
from prm_backend.evaluation.processbench import Thresholds, threshold_of
from prm_backend.evaluation.steps import CLASSES, Floats, Ints, Scored, checked, triples
from prm_backend.types import StepLabel


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cohen's kappa between human labels and the PRM; None where people used one class only, so that there is nothing
    to agree on. `three_class` is over the solutions whose every label says which of −, 0, + (one with `NOT_BAD` comes
    from somebody who did not say), the PRM's word being its most probable class; `bad` is over all judged steps, the
    PRM's word being p(−) >= threshold."""

    three_class: float | None
    bad: float | None
    three_class_steps: int
    judged_steps: int


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable], weight: Sequence[float] | None = None) -> float:
    """Raises `NotEnoughData` where chance alone would agree always: nothing rated, or one class only."""
    classes = {value: index for index, value in enumerate(dict.fromkeys([*first, *second]))}
    confusion = np.zeros((1, len(classes), len(classes)))
    for a, b, mass in zip(first, second, weight or [1.0] * len(first), strict=True):
        confusion[0, classes[a], classes[b]] += mass
    kappa = _kappa(confusion)[0]
    if np.isnan(kappa):
        raise NotEnoughData("agreement beyond chance needs at least two classes")
    return float(kappa)


def agreement(scored: Sequence[Scored], threshold: Thresholds) -> Agreement:
    words = _words(scored, threshold)
    one = dict.fromkeys((labeled.solution.problem_key for labeled, _ in scored), 0)
    values = {name: statistic(np.ones((1, 1)))[0] for name, statistic in _statistics(words, one, 1).items()}
    three, bad = (None if np.isnan(value) else float(value) for value in values.values())
    return Agreement(three, bad, len(words["kappa_three_class"]), len(words["kappa_bad"]))


def agreement_statistics(
    scored: Sequence[Scored], threshold: Thresholds, numbers: Mapping[str, int]
) -> dict[str, Statistic]:
    return _statistics(_words(scored, threshold), numbers, len(numbers))


Word = tuple[int, int, float, str]  # what a person says, what the PRM says, weight, problem key


def _words(scored: Sequence[Scored], threshold: Thresholds) -> dict[str, list[Word]]:
    three: list[Word] = []
    bad: list[Word] = []
    for labeled, scores in scored:
        key = labeled.solution.problem_key
        at, in_three = threshold_of(threshold, key), StepLabel.NOT_BAD not in labeled.labels
        for label, p in zip(labeled.labels, triples(checked(labeled, scores)), strict=True):
            if label is None:
                continue
            bad.append((int(label is StepLabel.BAD), int(p[0] >= at), labeled.weight, key))
            if in_three:
                three.append((CLASSES.index(label), int(np.argmax(p)), labeled.weight, key))
    return {"kappa_three_class": three, "kappa_bad": bad}


def _statistics(words: Mapping[str, Sequence[Word]], numbers: Mapping[str, int], problems: int) -> dict[str, Statistic]:
    return {
        name: _statistic(said, numbers, problems, classes)
        for (name, said), classes in zip(words.items(), (len(CLASSES), 2), strict=True)
    }


def _statistic(said: Sequence[Word], numbers: Mapping[str, int], problems: int, classes: int) -> Statistic:
    rows = np.zeros((len(said), classes * classes))
    for row, (person, prm, weight, _) in zip(rows, said, strict=True):
        row[person * classes + prm] = weight
    problem: Ints = np.array([numbers[key] for *_, key in said], np.int64)
    return of_sums(rows, problem, problems, lambda sums: _with_people(sums.reshape(-1, classes, classes)))


def _with_people(confusion: Floats) -> Floats:
    """Kappa, NaN where people used one class only: it would be 0 whatever the PRM says."""
    used = (confusion.sum(axis=2) > 0).sum(axis=1)
    return np.where(used > 1, _kappa(confusion), np.nan)


def _kappa(confusion: Floats) -> Floats:
    """(samples, classes, classes) weights -> kappa (samples,); NaN where chance agrees always."""
    total = confusion.sum(axis=(1, 2))
    share = confusion / np.where(total > 0, total, 1.0)[:, None, None]
    observed = np.trace(share, axis1=1, axis2=2)
    chance = (share.sum(axis=1) * share.sum(axis=2)).sum(axis=1)
    kappa: Floats = np.full(len(confusion), np.nan)
    np.divide(observed - chance, 1 - chance, out=kappa, where=(total > 0) & (chance < 1 - 1e-12))
    return kappa
