"""What can be wrong with an installation, looked for from the outside; each check says what to do."""
