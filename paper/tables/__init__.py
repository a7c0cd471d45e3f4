"""One table a file: SOURCES names the records, `text` returns the LaTeX tabular."""
