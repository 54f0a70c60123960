"""`gristmill schedule --print`: the same schedule for systemd or Kubernetes."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from components.core import escaping
from components.core.errors import InputError
from components.orchestration.retraining.cron import Cron, local_zone, zone_name

# Every five minutes, to look for new data. A retrain without new data takes seconds.
_OFTEN_SYSTEMD = "*:0/5"
_OFTEN_CRON = "*/5 * * * *"


def show(
    kind: str,
    root: Path,
    name: str,
    cron: Cron | None,
    on_drift: bool,
) -> str:
    """Return the files that make a scheduler retrain a pipeline.

    Args:
        kind: systemd | kubernetes.
        root: of the project.
        name: of the pipeline.
        cron: the times. None: when the data are new.
        on_drift: whether the user asks for a retrain on drift.

    Raises:
        InputError: the kind is another one, or the user asks for drift, which only
            `gristmill schedule` itself supports.
    """
    if kind not in ("systemd", "kubernetes"):
        raise InputError(
            f"{kind!r} is not one of systemd, kubernetes",
            where="--print",
            remedy='gristmill schedule --cron "0 3 * * *" --print systemd',
        )
    if on_drift:
        raise InputError(
            "no timer waits for drift",
            where="--print",
            remedy="run gristmill schedule --on-drift itself as a service, or print --on-new-data",
        )
    why = "new data"
    line = _OFTEN_CRON
    calendar = _OFTEN_SYSTEMD
    if cron:
        why = f"cron {cron.line}"
        line = cron.line
        calendar = cron.calendar()
    if kind == "systemd":
        return _systemd(root, name, calendar, why)
    return _kubernetes(name, line, why)


def _systemd(root: Path, name: str, calendar: str, why: str) -> str:
    words = (sys.executable, "-m", "components.cli", "retrain", name, "--trigger", why)
    command = " ".join(escaping.systemd_word(word) for word in words)
    name = escaping.systemd_setting(name)
    unit = f"gristmill-retrain-{name}"
    return f"""\
# /etc/systemd/system/{unit}.service
[Unit]
Description=Gristmill: retrain of {name}
After=network-online.target

[Service]
Type=oneshot
User={escaping.systemd_setting(_user())}
WorkingDirectory={escaping.systemd_setting(str(root))}
# Secrets, one NAME=value a line, mode 600. The - lets the file be absent.
EnvironmentFile=-/etc/gristmill/{name}.env
ExecStart={command}
TimeoutStopSec=120

# /etc/systemd/system/{unit}.timer
[Unit]
Description=Gristmill: when to retrain {name}

[Timer]
OnCalendar={calendar}
Persistent=true

[Install]
WantedBy=timers.target

# then: systemctl daemon-reload && systemctl enable --now {unit}.timer
"""


def _user() -> str:
    """Return the user of this process. The unit runs as the same user, who owns the project."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return str(os.getuid())


def _kubernetes(name: str, line: str, why: str) -> str:
    words = ("python", "-m", "components.cli", "retrain", name, "--trigger", why)
    command = ", ".join(escaping.yaml_string(word) for word in words)
    unit = escaping.yaml_string(f"gristmill-retrain-{name.replace('_', '-')}")
    zone = zone_name(local_zone())
    time_zone = ""
    if zone:
        # Without it Kubernetes reads the line on the clock of its controller, mostly UTC.
        time_zone = f"\n  timeZone: {escaping.yaml_string(zone)}"
    return f"""\
# To be set: the image, which holds Python with this project's packages, \
and the claim, which holds the checkout with its data and .dvc/cache.
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {unit}
spec:
  schedule: {escaping.yaml_string(line)}{time_zone}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 86400
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 120
          containers:
          - name: retrain
            image: IMAGE
            workingDir: /project
            command: [{command}]
            volumeMounts:
            - {{name: project, mountPath: /project}}
          volumes:
          - name: project
            persistentVolumeClaim: {{claimName: CLAIM}}
"""
