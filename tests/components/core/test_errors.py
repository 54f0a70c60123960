"""Errors say what, where and what to do, also after they crossed a process border."""

from __future__ import annotations

import pickle
import subprocess
import sys

from components.core.errors import (
    EnvironmentFault,
    GateError,
    GristmillError,
    InputError,
    ParamsError,
)

KINDS = {GristmillError: 2, InputError: 2, ParamsError: 2, GateError: 3, EnvironmentFault: 4}
MAKE = """
import pickle, sys
from components.core import errors
kinds = [getattr(errors, name) for name in sys.argv[1:]]
sys.stdout.buffer.write(pickle.dumps([kind("坏了", where="a.csv:3", remedy="gristmill doctor") for kind in kinds]))
"""


def test_errors_of_another_process_keep_kind_fields_and_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAKE, *(kind.__name__ for kind in KINDS)],
        capture_output=True,
        check=True,
    )
    for error, (kind, code) in zip(pickle.loads(done.stdout), KINDS.items(), strict=True):
        assert type(error) is kind
        assert (error.what, error.where, error.remedy, error.exit_code) == (
            "坏了",
            "a.csv:3",
            "gristmill doctor",
            code,
        )
        assert str(error) == "a.csv:3: 坏了\n  -> gristmill doctor"


def test_place_and_remedy_may_be_left_out() -> None:
    assert str(InputError("is empty")) == "is empty"
    assert str(InputError("is empty", where="a.csv")) == "a.csv: is empty"
