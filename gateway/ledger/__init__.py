"""What is kept of each exchange, and what is counted: the audit ledger and the metrics. No content, no key, no caller's words."""
