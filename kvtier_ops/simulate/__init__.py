"""What a cache of given sizes would have done with the requests of a trace.

`trace` reads it; `stack` says what LRU finds at every capacity, in one pass; `ideal` what better
knowledge would find; `tiers` and `disk` run the engine's policies at the planned sizes; `ttft` puts
what was found on a time axis; `sweep` looks for the size that pays. Nothing here knows of tokens'
text, of torch, or of this host.
"""
