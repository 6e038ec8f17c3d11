"""The runtime check of annotations: beartype, with an int where a float is asked for, as Python's types allow."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
