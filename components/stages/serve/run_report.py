"""The report of a run: evaluate's page with the outcome of the gates."""

from __future__ import annotations

from collections.abc import Sequence

from components.core import escaping
from components.registry.release.gate_results import Gate, from_rows
from components.registry.release.release_log import Release
from components.registry.versions.reader import argument

_BEGIN, _END = "<!-- gates -->", "<!-- end of gates -->"
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


def with_gates(page: str, pipeline: str, made: Release) -> str:
    """Return evaluate's page with the outcome of the gates in its place.

    Args:
        page: what evaluate wrote. A page without the place, of an earlier version, stays as it is.
        pipeline: its name.
        made: what was decided about the version.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        return page
    return before + _section(pipeline, made) + after


def _section(pipeline: str, release: Release) -> str:
    gates = from_rows(release.gates)
    refused = (
        ", ".join(f"{gate.name} {gate.verdict}" for gate in gates if gate.passed is False)
        or release.why
    )
    outcome = _OUTCOMES.get(release.decision, release.decision).format(
        version=release.version, refused=refused
    )
    before = (
        f" Before it, version {release.before} was champion."
        if release.before and release.before != release.version
        else ""
    )
    review = f"gristmill review show{argument(pipeline)} {release.version}"
    command = f"<code>{escaping.html(review)}</code>"
    return "\n".join(
        [
            f"<p><b>{escaping.html(outcome)}</b>{escaping.html(before)} {command} shows its card.</p>",
            '<div class="scroll"><table>',
            _HEADER,
            "<tbody>",
            *_rows(gates),
            "</tbody></table></div>",
        ]
    )


def _rows(gates: Sequence[Gate]) -> list[str]:
    rows = []
    for gate in gates:
        interval = f"{gate.interval[0]:.4g} to {gate.interval[1]:.4g}" if gate.interval else ""
        verdict = escaping.html(gate.verdict)
        verdict = f"<b>{verdict}</b>" if gate.passed is False else verdict
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
    return "" if value is None else f"{value:.4g}"
