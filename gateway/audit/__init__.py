"""Audit log: who pulled, pushed and deleted what, and what was fetched into the cache.

`audit.db` is a file of its own, one for each data folder, so that no pull is a commit of another database. An event is
noted in memory (`AuditLog`), and written within a few seconds together with all others of its process (`AuditFile`);
several processes write to the file in turn. What cannot be written waits, up to a number of events, and then the oldest
are dropped and counted: no request waits or fails for the log. A crash loses the events that were not written yet.

The file is bounded by the age of its events and by its size; old events are deleted in small steps beside new ones. It
holds names, addresses and digests, and no credential. A file that is damaged is set aside, and a new one begun.
"""
