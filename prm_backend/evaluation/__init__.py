"""How good is a PRM: the benchmarks' own protocols, calibration, agreement with people, best-of-N, the gate between two
PRMs, and one report of all of it beside its baselines.

A step is bad iff its label is `BAD`; steps without a label count nowhere. Labelings weigh what `LabeledSolution.weight`
says. Resampling goes by problem, because solutions of one problem are not independent. numpy alone is needed.
"""

from prm_backend.evaluation.agreement import Agreement, agreement, cohen_kappa
from prm_backend.evaluation.best_of_n import BestOfN, Candidate, best_of_n
from prm_backend.evaluation.bootstrap import Estimate
from prm_backend.evaluation.calibration import Calibration, ReliabilityBin, VectorScaling, calibration, recalibrated
from prm_backend.evaluation.gate import Comparison, Verdict, compare
from prm_backend.evaluation.leakage import Leak, Leakage, near_duplicates, without_leaks
from prm_backend.evaluation.metrics import Metrics, evaluate
from prm_backend.evaluation.prmbench import PrmScore, labels_of_error_steps, prm_score
from prm_backend.evaluation.processbench import (
    F1,
    FirstErrorAccuracy,
    ProcessBench,
    Threshold,
    ThresholdSource,
    best_threshold,
    cross_fitted_threshold,
    first_error,
    first_error_accuracy,
    processbench,
    processbench_f1,
)
from prm_backend.evaluation.ranking import average_precision, step_auroc
from prm_backend.evaluation.report import Report, report
from prm_backend.evaluation.results import EvaluationData, Results, measure
from prm_backend.evaluation.steps import Scored

__all__ = [
    "F1",
    "Agreement",
    "BestOfN",
    "Calibration",
    "Candidate",
    "Comparison",
    "Estimate",
    "EvaluationData",
    "FirstErrorAccuracy",
    "Leak",
    "Leakage",
    "Metrics",
    "PrmScore",
    "ProcessBench",
    "ReliabilityBin",
    "Report",
    "Results",
    "Scored",
    "Threshold",
    "ThresholdSource",
    "VectorScaling",
    "Verdict",
    "agreement",
    "average_precision",
    "best_of_n",
    "best_threshold",
    "calibration",
    "cohen_kappa",
    "compare",
    "cross_fitted_threshold",
    "evaluate",
    "first_error",
    "first_error_accuracy",
    "labels_of_error_steps",
    "measure",
    "near_duplicates",
    "prm_score",
    "processbench",
    "processbench_f1",
    "recalibrated",
    "report",
    "step_auroc",
    "without_leaks",
]
