"""Text completions (`POST /v1/completions`), as upstreams answer them: their form, their streams, and how they are kept."""
