"""Policies in simulators: agents, episodes spread over processes, results with intervals, videos, report pages."""
