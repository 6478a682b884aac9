"""The rules of definition repositories: each has a name, a severity, and an entry in docs/definition-rules.md."""

from dataclasses import dataclass

from kiket_worker.definitions.problem import Problem, Severity


@dataclass(frozen=True)
class Rule:
    """One rule. `why` says in a sentence or two what it is for; `name` is what problems are found by."""

    name: str
    severity: Severity
    title: str
    why: str

    def problem(self, file: str, line: int, message: str, hint: str = "") -> Problem:
        """A problem by this rule; `message` names the thing, and `hint` says what helps."""
        return Problem(file, max(1, line), self.name, self.severity, message, hint)
