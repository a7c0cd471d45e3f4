"""Worst cases of block coordinate descent by semidefinite programming, over whole classes of functions.

`cases` states a worst case exactly, `sdp` solves it, `certify` turns the solution into an exact rational proof,
`theory.certificates` holds such proofs and their checker; `python -m theory.worst_case` writes the record.
"""

from theory.worst_case.cases import Case, identity
from theory.worst_case.certify import CertificateError, certify
from theory.worst_case.sdp import SolverError, solve, worst_case

__all__ = ["Case", "CertificateError", "SolverError", "certify", "identity", "solve", "worst_case"]
