"""The process that watches a cluster and changes it, and its admin API. Knows processes, plan and report."""
