"""`kvtier tune`: makes the host what a plan needs, and puts it back exactly.

find     plan -> changes, each old -> new with its reason; nothing is written
apply    changes -> the kernel's files, each one in the journal before it is made
undo     the journal -> the kernel's files as they were
"""
