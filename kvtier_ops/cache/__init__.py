"""A running server's cache from an operator's side: what is in it, bring it up, pin it, drop it."""
