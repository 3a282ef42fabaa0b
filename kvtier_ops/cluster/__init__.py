"""Several nodes: which one this is, and how all of them meet before any of them starts.

`node_rank` is what every command needs; `meet` is launch's, and imported when it runs.
"""
