"""The control plane, in the supervisor: health and metrics on the ops port, the admin API on a port of its own."""
