"""The reference pages that follow from the code.

    command_pages.py       docs/en/reference/commands.md and docs/zh/reference/commands.md
    commands.en.yaml       titles and notes of the English page
    commands.zh.yaml       those of the Chinese page, and the Chinese of each help text

`python -m components.cli.reference` writes them, and the files of
`components.orchestration.params_reference`.
"""
