"""The restoration tasks of the field by name, the settings of each method for them, and the best method for each."""
