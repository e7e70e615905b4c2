"""Changes of groups, projects, users and what belongs to them: each is decided, made, and told to the audit log, for
every surface alike."""
