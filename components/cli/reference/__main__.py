"""Write all generated reference files: `python -m components.cli.reference`."""

from __future__ import annotations

from components.cli.reference.command_pages import command_pages
from components.core.files import write_atomic
from components.core.terminal import print_line
from components.orchestration.params_reference.generate import generate
from components.orchestration.project import root

if __name__ == "__main__":
    project = root()
    for name, text in (command_pages() | generate(project)).items():
        write_atomic(project / name, text)
        print_line(f"wrote {name}")
