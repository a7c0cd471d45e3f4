"""One figure a file: SOURCES names the records, `draw` returns the matplotlib figure."""
