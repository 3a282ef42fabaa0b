"""A page store's directory from an operator's side: what is in it, is it sound, empty it."""
