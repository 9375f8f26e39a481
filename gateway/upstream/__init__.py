"""The providers' side: everything between an attempt and the bytes that a provider sends back.

The transport (http, pool, guard and what they stand on) moves the bytes of HTTP/1.1 exchanges and knows no dialect. Promises: a
connection is taken only for the endpoint of a route, to the place that the catalogue names; one exchange's bytes never answer
another; no redirect, proxy, cookie or environment variable changes where bytes go. Dialects, outcomes and streams stand on it.
"""
