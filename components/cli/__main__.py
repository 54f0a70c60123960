"""Run the command: `python -m components.cli`."""

from components.cli.main import main

main()
