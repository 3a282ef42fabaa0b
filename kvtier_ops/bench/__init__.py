"""Measurements of a host: what `kvtier plan` and the doctor go by instead of datasheets."""
