"""The reference of all params, generated from the models that check them.

    model_walk.py          sections and params of the models, for all tasks
    markdown_pages.py      docs/en/reference/params.md and docs/zh/reference/params.md
    yaml_comments.py       comments of the shipped params.yaml files
    generate.py            all of these files
    descriptions.zh.yaml   the Chinese descriptions

`python -m components.orchestration.params_reference` writes the files.
"""
