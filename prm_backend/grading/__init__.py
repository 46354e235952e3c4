"""Is a final answer right? Two verdicts: Math-Verify's (https://github.com/huggingface/Math-Verify), and a conservative
one after the rules of PRM800K's grader.

    with Grader() as grader:
        grader.grade_both("1/2", "0.5")  # Verdicts(math_verify=..., conservative=...)
"""

from prm_backend.grading.answers import MAX_ANSWER_CHARS, final_answer_of
from prm_backend.grading.grader import Grader, GradingError, grade
from prm_backend.grading.verdicts import Verdict, Verdicts

__all__ = ["MAX_ANSWER_CHARS", "Grader", "GradingError", "Verdict", "Verdicts", "final_answer_of", "grade"]
