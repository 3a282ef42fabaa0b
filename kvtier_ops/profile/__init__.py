"""The profile: what an operator may write, how it is read, and how it is shown."""
