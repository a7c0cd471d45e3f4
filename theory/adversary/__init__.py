"""The adversary: instances on which a theorem is nearly an equality, and witnesses against stronger statements.

`spaces` bounded coordinates of instances; `targets` which theorem is attacked where; `search` differential evolution
and gradient ascent; `mutation` stronger statements and what kills them; `maps` the slack over pairs of parameters.
"""
