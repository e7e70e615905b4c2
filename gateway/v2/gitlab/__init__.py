"""The API of GitLab's registry itself, below /gitlab/v1/, which takes the same tokens as /v2/."""
