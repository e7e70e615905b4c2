"""The tree as values and rules: paths, groups, and where names lead. No SQL, no settings, no HTTP."""
