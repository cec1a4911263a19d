"""The judge of fault runs: histories and their checker.

`history` records what clients did and were told, `events` what the cluster did;
`checker` compares the two.  Nothing here knows the library.
"""
