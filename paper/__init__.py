"""The paper: reads records, draws figures and tables, and never trains."""
