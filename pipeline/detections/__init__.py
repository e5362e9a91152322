"""Findings: rules run over the views, and what they returned kept with its history."""
