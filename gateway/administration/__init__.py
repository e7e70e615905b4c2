"""What whoever looks after groups and projects changes there: decided, done, and told to the audit log, for every
surface alike."""
