"""Rebuilds the demo family (base, ja, vlm) and its benchmark from public artwork and dictionaries.

`python -m zoo.build` is the one command; `python -m zoo.verify` checks what is shipped. See README.md beside this file.
"""
