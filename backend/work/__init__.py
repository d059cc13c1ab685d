"""Requests, plans, jobs and lanes: what is asked, and its way to a file. Knows no HTTP."""
