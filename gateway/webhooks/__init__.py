"""Webhooks as values: what one is, what is told of an event and in which form, how it is signed, and when it is tried
again. It knows no database and no connection.

How an event becomes a request:

    transaction of a push or a deletion ──▶ outbox ──▶ deliveries, one for each webhook ──▶ attempts ──▶ delivered
    pulls and cache fills, kept in memory ─▶ outbox                                          │  └──────▶ dead
                                                                                             └─ tried again later

A push or a deletion is written to the outbox (`gateway.db.webhook_events`) by the transaction that does it, so that
what is acknowledged is told of, whatever is killed when. Pulls and cache fills wait in the memory of their process for
some seconds, up to a number, and a crash loses them: no pull waits for a commit.

One process of a host takes events out of the outbox, and in the same transaction makes a delivery for each webhook that
wants one. Each webhook has its own task, which sends its deliveries one after the other, so that one that is slow holds
up none but itself. A process takes the lease of a delivery before it sends it, and notes the outcome afterwards; if it
is killed in between, the delivery is sent again after the lease, with the same id: at least once, and told apart by it.

A delivery that fails is tried again after a growing time, and is dead after a number of attempts; it can be sent again
by hand. A webhook that fails again and again has a pause, which grows as well, and in the end is disabled.
"""
