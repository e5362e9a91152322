"""Scheduled entry points: each is one command, safe to start twice and to repeat.

Copy `crontab`, `systemd/` or `cronjob.yaml`, or let `delegraph run` start the same work.
"""
