"""`kvtier doctor bundle`: what a bug report needs in one archive, without secrets."""
