"""/api/v4/…: the REST API that GitLab's clients speak; one module for each resource."""
