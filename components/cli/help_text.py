"""What the help of all commands shares: panels, their order, and examples."""

from __future__ import annotations

# Panel -> its commands, both in the order of use.
PANELS = {
    "Data": ("new", "tasks", "pull", "feedback"),
    "Pipeline": ("run", "retrain", "schedule", "stage"),
    "Release": ("review", "rollback", "history", "trace"),
    "Service": ("serve", "predict", "export", "monitor", "keys"),
    "Machine": ("up", "down", "status", "doctor", "mlflow", "clean-state"),
}
EXIT_CODES = (
    "Exit codes: 0 done, 1 a bug, 2 bad input or params, 3 refused by a gate,\n"
    "4 machine or cluster, 5 drift found by gristmill monitor."
)


def examples(*commands: str) -> str:
    """Return the end of a help text: commands that can be typed, each on its own line."""
    return "\n".join(["Examples:", *commands])
