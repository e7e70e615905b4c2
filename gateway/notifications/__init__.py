"""Notifications: events on their way from the outbox to webhooks, and the administration of these."""
