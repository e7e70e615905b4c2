"""The part of GitLab's GraphQL API that concerns dependency proxies, at /api/graphql.

A document is bounded before anything is done for it: by its bytes and tokens, by its depth, and by how many fields it
selects once its fragments are written out, each as often as it is spread. The rules of the language come next, and then
the rights of the caller, resource by resource: what the caller may not know of is null, as if it were not there.
"""
