"""Is the day's data what it should be: contracts of tables, drift of features, leaks of labels."""
