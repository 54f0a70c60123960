"""Report of a run: the page of evaluate with the outcome of the gates."""

from __future__ import annotations

from collections.abc import Sequence

from components.core import escaping
from components.registry.release.gate_results import Gate, from_rows
from components.registry.release.release_log import Release
from components.registry.versions.reader import argument

_BEGIN = "<!-- gates -->"
_END = "<!-- end of gates -->"
_OUTCOMES = {
    "promoted": "It was released: version {version} is champion.",
    "unchanged": "Version {version} was champion already.",
    "refused": "It was not released: {refused}.",
    "waiting": "It waits for a person: {refused}.",
    "rejected": "It was not released: a person rejected version {version} before.",
    "experiment": "It is registered as version {version}; experiments are never released.",
}
_HEADER = (
    '<thead><tr><th>gate</th><th class="left">verdict</th>'
    "<th>value</th><th>interval</th><th>limit</th>"
    '<th class="left">what was compared</th></tr></thead>'
)


def with_gates(page: str, pipeline: str, decision: Release) -> str:
    """Return the page of evaluate with the outcome of the gates between its two marks.

    Args:
        page: of evaluate. A page without the marks, of an earlier version, is returned as it is.
        pipeline: its name.
        decision: about the version.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        return page
    return before + _section(pipeline, decision) + after


def _section(pipeline: str, release: Release) -> str:
    """Return the section of the gates as HTML."""
    gates = from_rows(release.gates)
    failed = [f"{gate.name} {gate.verdict}" for gate in gates if gate.passed is False]
    refused = ", ".join(failed) or release.why
    template = _OUTCOMES.get(release.decision, release.decision)
    outcome = template.format(version=release.version, refused=refused)
    before = ""
    if release.before and release.before != release.version:
        before = f" Before it, version {release.before} was champion."
    review = f"gristmill review show{argument(pipeline)} {release.version}"
    command = f"<code>{escaping.html(review)}</code>"
    return "\n".join(
        [
            f"<p><b>{escaping.html(outcome)}</b>{escaping.html(before)} "
            f"{command} shows its card.</p>",
            '<div class="scroll"><table>',
            _HEADER,
            "<tbody>",
            *_rows(gates),
            "</tbody></table></div>",
        ]
    )


def _rows(gates: Sequence[Gate]) -> list[str]:
    """Return the rows of the table of gates as HTML."""
    rows = []
    for gate in gates:
        interval = ""
        if gate.interval:
            low, high = gate.interval
            interval = f"{low:.4g} to {high:.4g}"
        verdict = escaping.html(gate.verdict)
        if gate.passed is False:
            verdict = f"<b>{verdict}</b>"
        cells = [
            f"<th>{escaping.html(gate.name)}</th>",
            f'<td class="left">{verdict}</td>',
            f"<td>{_number(gate.value)}</td>",
            f"<td>{interval}</td>",
            f"<td>{_number(gate.limit)}</td>",
            f'<td class="left wrap">{escaping.html(gate.detail)}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return rows


def _number(value: float | None) -> str:
    """Return a number with four digits; empty if there is none."""
    return "" if value is None else f"{value:.4g}"
