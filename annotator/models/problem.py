from __future__ import annotations

from django.db import models


class ImportRun(models.Model):
    """One file brought in. Its rows exist for nobody before `state` is done: one column makes them visible at once."""

    class State(models.TextChoices):
        QUEUED = "queued"
        VALIDATING = "validating"
        WRITING = "writing"
        DONE = "done"
        FAILED = "failed"
        UNDOING = "undoing"
        UNDONE = "undone"

    class Labels(models.TextChoices):
        IGNORE = "ignore", "leave the file's labels out"
        LABELINGS = "labelings", "as imported labelings"
        GOLD = "gold", "as gold labels"
        ORACLE = "oracle", "only for simulation"

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="imports")
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64, blank=True)
    format = models.CharField(max_length=32)
    labels = models.CharField(max_length=16, choices=Labels)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    report = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, help_text="When its rows became visible.")

    UNFINISHED = (State.QUEUED, State.VALIDATING, State.WRITING, State.UNDOING)

    class Meta:
        constraints = [
            # Two files written at once could each count on rows that the other one then takes back.
            models.UniqueConstraint(
                fields=["campaign"],
                condition=models.Q(state__in=["queued", "validating", "writing", "undoing"]),
                name="one_unfinished_import_per_campaign",
            )
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.state})"


class Problem(models.Model):
    """One question of one campaign, identified by its text and references; the split depends on the text alone."""

    class SplitName(models.TextChoices):
        TRAIN = "train"
        VALIDATION = "validation"
        TEST = "test"

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="problems")
    import_run = models.ForeignKey(ImportRun, models.CASCADE, null=True, related_name="problems")
    digest = models.CharField(max_length=64)
    text = models.TextField()
    text_key = models.CharField(max_length=32, help_text="Hash of the normalised text: the same in all campaigns.")
    reference_answer = models.TextField(null=True)
    reference_solution = models.TextField(null=True)
    split = models.CharField(max_length=16, choices=SplitName)
    corrected_answer = models.TextField(
        null=True, help_text="A manager's correction of the reference answer; the imported one is kept."
    )
    is_held = models.BooleanField(default=False, help_text="Reported as bad: not served until a manager has looked.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "digest"], name="one_problem_per_digest")]

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def answer(self) -> str | None:
        """The reference answer as it is believed now."""
        return self.reference_answer if self.corrected_answer is None else self.corrected_answer


class Attachment(models.Model):
    """An image of a problem, stored by content."""

    problem = models.ForeignKey(Problem, models.CASCADE, related_name="attachments")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=200)
    content_type = models.CharField(max_length=40)
    sha256 = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["problem", "position"], name="one_attachment_per_position")]
        ordering = ["position"]

    def __str__(self) -> str:
        return self.name


class Solution(models.Model):
    """One model-written chain of steps. `draw` is a seeded hash in [0, 1): the order of every random draw."""

    class Verdict(models.TextChoices):
        CORRECT = "correct"
        INCORRECT = "incorrect"
        UNKNOWN = "unknown"

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="solutions")
    problem = models.ForeignKey(Problem, models.CASCADE, related_name="solutions")
    import_run = models.ForeignKey(ImportRun, models.CASCADE, null=True, related_name="solutions")
    repeated_by = models.ManyToManyField(ImportRun, related_name="repeated_solutions")
    digest = models.CharField(max_length=64)
    phase = models.PositiveSmallIntegerField()
    split = models.CharField(max_length=16, choices=Problem.SplitName)
    draw = models.FloatField()
    external_id = models.TextField(blank=True)
    generator = models.TextField(blank=True)
    step_count = models.PositiveIntegerField()
    final_answer = models.TextField(null=True)
    source_verdict = models.CharField(max_length=16, choices=Verdict, default=Verdict.UNKNOWN)
    graded_verdict = models.CharField(max_length=16, choices=Verdict, blank=True, help_text="Blank: not graded yet.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "digest"], name="one_solution_per_digest")]
        indexes = [models.Index(fields=["campaign", "split", "draw"], name="solution_draw_order")]

    def __str__(self) -> str:
        return f"solution {self.pk}"

    @property
    def answer_correct(self) -> bool | None:
        """Whether the final answer is right: our grader's word, else the source's; None where neither knows."""
        return answer_correct(self.graded_verdict, self.source_verdict)


def answer_correct(*verdicts: str) -> bool | None:
    """The first verdict that is one; None where nobody knows."""
    for verdict in verdicts:
        if verdict in (Solution.Verdict.CORRECT, Solution.Verdict.INCORRECT):
            return verdict == Solution.Verdict.CORRECT
    return None


class Completion(models.Model):
    """A candidate step. A ready solution is one path (index 0 at each depth); alternatives are siblings."""

    class Source(models.TextChoices):
        MODEL = "model"
        HUMAN = "human"

    solution = models.ForeignKey(Solution, models.CASCADE, related_name="completions")
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    step_index = models.PositiveIntegerField()
    completion_index = models.PositiveIntegerField()
    text = models.TextField(blank=True)
    source = models.CharField(max_length=16, choices=Source, default=Source.MODEL)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["solution", "parent", "completion_index"], name="one_completion_per_place"),
            # SQL holds NULL parents for distinct, so the first step needs a constraint of its own.
            models.UniqueConstraint(
                fields=["solution", "completion_index"],
                condition=models.Q(parent=None),
                name="one_completion_per_first_place",
            ),
        ]
        indexes = [models.Index(fields=["solution", "step_index", "completion_index"], name="completion_reading_order")]

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def is_final(self) -> bool:
        """Whether the step gives the final answer, as PRM800K writes it."""
        return ends_with_answer(self.text)


def ends_with_answer(text: str) -> bool:
    return any(line.strip() == "# Answer" for line in text.splitlines())


class Critique(models.Model):
    """What somebody or something says is wrong with a completion, for labelers to rate."""

    completion = models.ForeignKey(Completion, models.CASCADE, related_name="critiques")
    position = models.PositiveSmallIntegerField()
    text = models.TextField()
    source = models.CharField(max_length=16, choices=Completion.Source, default=Completion.Source.MODEL)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["completion", "position"], name="one_critique_per_position")]
        ordering = ["position"]

    def __str__(self) -> str:
        return self.text[:80]
