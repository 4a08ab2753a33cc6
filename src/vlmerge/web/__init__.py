"""Pages that this machine serves to its own user: a run as it grows (`vlmerge watch`), and models to ask (`vlmerge ask --web`).

`gate.py` is the door, `serving.py` the server; `watch.py` and `chat.py` are the two sites.
"""
