"""SQL of gateway.db: schema, migrations, how it is opened and written, one module of queries per aggregate."""
