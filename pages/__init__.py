"""The results as static pages, made of the same records as the paper by the same functions.

Not named site: that is a module of Python's own.
"""
