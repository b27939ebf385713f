"""What the doctor says: findings with a number found and a number expected, and the report that holds them."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["ok", "warning", "refused"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    code
        Stable name, such as ``"image-alignment"``; the codes are listed in ``docs/check.md``.
    severity
        ``"refused"``: building on this would give wrong numbers. ``"warning"``: recorded, cannot mislead. ``"ok"``.
    what
        What was looked at, in words.
    found, expected
        The number found and the number expected, each with its unit.
    remedy
        What to do; empty where there is nothing to do.
    forceable
        True: ``--force`` may turn the refusal into a recorded warning, because the numbers stay right or the user knows better.
    """

    code: str
    severity: Severity
    what: str
    found: str
    expected: str
    remedy: str = ""
    forceable: bool = False


@dataclass(frozen=True)
class Report:
    """All findings of one section, in the order in which they were looked at."""

    sample: str
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> bool:
        """True if at least one finding is a refusal."""
        return any(finding.severity == "refused" for finding in self.findings)

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def find(self, code: str) -> Finding | None:
        """Return the first finding of this code, or None where it was not looked at."""
        return next((finding for finding in self.findings if finding.code == code), None)

    def forced(self) -> "Report":
        """Return a copy in which every forceable refusal is a warning that says it was forced.

        Examples
        --------
        >>> weak = Finding("image-alignment", "refused", "stain under nuclei", "z 1.2", "z >= 5", forceable=True)
        >>> broken = Finding("counts-nan", "refused", "missing counts", "3", "0")
        >>> report = Report("s1", (weak, broken)).forced()
        >>> [finding.severity for finding in report.findings], report.refused
        (['warning', 'refused'], True)
        """
        return Report(self.sample, tuple(_force(finding) for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "sample": self.sample,
            "refused": self.refused,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }


def _force(finding: Finding) -> Finding:
    if finding.severity != "refused" or not finding.forceable:
        return finding
    return dataclasses.replace(finding, severity="warning", remedy=f"Forced by the user. {finding.remedy}".strip())


def safe_text(name: object, longest: int = 60) -> str:
    r"""Return a name from a file as text that a terminal cannot take as commands: control characters as ``\xNN``.

    Examples
    --------
    >>> safe_text("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(name))
    return text if len(text) <= longest else text[: longest - 1] + "…"
