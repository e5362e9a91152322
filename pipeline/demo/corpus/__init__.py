"""The seeded corpus: every detection's story and its benign twins, planted many times.

Written from the catalogue's attack logic and false positives, never from a rule:
it is the examiner.  The truth of each planting is kept beside its events, and
what the registry must know of it goes into a folder that is written with them.
"""
