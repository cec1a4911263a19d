"""The judge of fault runs: histories, their checker, and links that can be cut.

`history` records what clients did and were told, `events` what the cluster did;
`checker` compares the two.  `links` and `isolation` cut members off from each other.
Nothing here but `isolation` knows the library.
"""
